//! Both sides' options with their files read, and the TLS handshake on a fresh socket.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::options::{NameCheck, TlsConfigError, TlsOptions, Verify};
use super::{TlsError, files, optfile};

/// How long files count as read: that of OTP's cache. So a certificate that was renewed is used
/// by connections made from then on, without a new start.
const READ_AGAIN: Duration = Duration::from_secs(120);

/// How long a peer we refuse has to take the alert that says why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What [`NodeConfig::tls`](crate::NodeConfig::tls) needs: the options of both sides, with their
/// files read. Clones share what they read.
///
/// The files are read again when a connection is made and two minutes have passed; if that fails,
/// what was read before stays in use, and the log says so.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    server: TlsOptions,
    client: TlsOptions,
    /// Guards nothing else, held for a few lines.
    files: Mutex<Files>,
}

#[derive(Clone)]
struct Files {
    read: Instant,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// TLS by these options of the two sides.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when a file can't be used or options contradict each other.
    pub fn new(server: TlsOptions, client: TlsOptions) -> Result<Self, TlsConfigError> {
        let files = Mutex::new(Files::read(&server, &client)?);
        Ok(Self(Arc::new(Inner { server, client, files })))
    }

    /// Both sides with the same certificate, and each checks the other's: what a cluster should
    /// have.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when a file can't be used.
    pub fn mutual(
        cacertfile: impl AsRef<Path>,
        certfile: impl AsRef<Path>,
        keyfile: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let both = TlsOptions::new()
            .cacertfile(cacertfile.as_ref())
            .certfile(certfile.as_ref())
            .keyfile(keyfile.as_ref())
            .verify(Verify::Peer);
        Self::new(both.clone().fail_if_no_peer_cert(true), both)
    }

    /// TLS by OTP's option file, that of `-ssl_dist_optfile`:
    /// `[{server, [{certfile, "node.pem"}, ...]}, {client, [...]}].`
    ///
    /// Paths in it are taken as they stand, so relative ones are to the working directory. An option
    /// that we can't honour is an error, unless to leave it out weakens nothing
    /// (`secure_renegotiate`, `reuse_sessions`, `hibernate_after`, `ktls`, `dhfile` and their like).
    ///
    /// # Errors
    ///
    /// [`TlsConfigError`] when the file, or one that it names, can't be used.
    pub fn from_optfile(file: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let (server, client) = optfile::read(file.as_ref())?;
        Self::new(server, client)
    }

    /// The TLS handshake of the side that dials, to the node at this host.
    pub(crate) async fn connect(
        &self,
        socket: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let host = match &self.0.client.server_name {
            Some(NameCheck::Is(name)) => name,
            Some(NameCheck::Host | NameCheck::Off) | None => host,
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::BadHost { host: host.to_owned() })?;
        let connector = TlsConnector::from(self.files().await.client);
        match connector.connect(name, socket).into_fallible().await {
            Ok(stream) => Ok(stream.into()),
            Err((error, socket)) => Err(refuse(&error, socket).await),
        }
    }

    /// The TLS handshake of the side that was dialled.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let acceptor = TlsAcceptor::from(self.files().await.server);
        match acceptor.accept(socket).into_fallible().await {
            Ok(stream) => Ok(stream.into()),
            Err((error, socket)) => Err(refuse(&error, socket).await),
        }
    }

    async fn files(&self) -> Files {
        {
            let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
            if files.read.elapsed() < READ_AGAIN {
                return files.clone();
            }
            // Others who come meanwhile go on with what there is.
            files.read = Instant::now();
        }
        let inner = self.0.clone();
        let read = tokio::task::spawn_blocking(move || Files::read(&inner.server, &inner.client));
        let read = read.await;
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Ok(read)) => *files = read,
            Ok(Err(error)) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
                let why = why.unwrap_or_default();
                log::warn!("TLS goes on with the certificates read before: {error}{why}");
            }
            // The runtime ends.
            Err(_) => {}
        }
        files.clone()
    }
}

impl Files {
    fn read(server: &TlsOptions, client: &TlsOptions) -> Result<Self, TlsConfigError> {
        Ok(Self {
            read: Instant::now(),
            server: Arc::new(files::server(server)?),
            client: Arc::new(files::client(client)?),
        })
    }
}

/// After a failed handshake: lets the peer read the alert that was sent to it.
///
/// To close while bytes of the peer are unread resets the connection, and the alert may be lost.
async fn refuse(error: &io::Error, mut socket: TcpStream) -> TlsError {
    let error = TlsError::of(error);
    if !matches!(error, TlsError::Closed | TlsError::Refused { .. }) {
        let _ = timeout(LAST_WORDS, async {
            let mut unread = [0; 1024];
            if socket.shutdown().await.is_ok() {
                while matches!(socket.read(&mut unread).await, Ok(1..)) {}
            }
        })
        .await;
    }
    error
}

/// Without what was read: keys are in it.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, client) = (&self.0.server, &self.0.client);
        f.debug_struct("Tls").field("server", server).field("client", client).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A file with a certificate and its key; removed when dropped.
    struct File(PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            let name = format!("dp-tls-{name}-{}.pem", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed([String::from("h")]).unwrap();
            fs::write(&self.0, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn let_time_pass(tls: &Tls) {
        let mut files = tls.0.files.lock().unwrap();
        files.read = files.read.checked_sub(READ_AGAIN).unwrap();
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_after_two_minutes_and_a_broken_one_never() {
        let file = File::new("renewed");
        file.renew();
        let options = TlsOptions::new().certfile(&file.0).verify(Verify::None);
        let tls = Tls::new(options.clone(), options).unwrap();
        let first = tls.files().await.server;

        file.renew();
        assert!(Arc::ptr_eq(&first, &tls.files().await.server), "read too soon");
        let_time_pass(&tls);
        let second = tls.files().await.server;
        assert!(!Arc::ptr_eq(&first, &second), "not read again");

        fs::write(&file.0, "half a file").unwrap();
        let_time_pass(&tls);
        assert!(Arc::ptr_eq(&second, &tls.files().await.server), "what was good is lost");
    }

    #[test]
    fn what_a_file_lacks_is_told_with_its_name() {
        let file = File::new("lacking");
        let error = |text: &str| {
            fs::write(&file.0, text).unwrap();
            let name = file.0.display().to_string();
            let options = TlsOptions::new().certfile(&file.0).verify(Verify::None);
            let error = Tls::new(options.clone(), options).unwrap_err().to_string();
            error.strip_prefix(&format!("{name}: ")).unwrap_or(&error).to_owned()
        };
        let made = rcgen::generate_simple_self_signed([String::from("h")]).unwrap();
        let other = rcgen::generate_simple_self_signed([String::from("h")]).unwrap();
        let (pem, key) = (made.cert.pem(), other.signing_key.serialize_pem());
        assert_eq!(error(""), "there is no certificate in it, in PEM");
        assert_eq!(
            error(&pem),
            "there is no private key in it, in PEM; if another file has it, name that one as the keyfile"
        );
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(
            error(&(pem.clone() + &encrypted)),
            "the key is encrypted; we read only plain ones"
        );
        let mismatch = error(&(pem + &key));
        assert!(mismatch.starts_with("TLS, server: keyfile: "), "{mismatch}");
    }

    #[test]
    fn an_option_file_that_is_no_term_is_told_by_its_line() {
        let file = File::new("syntax");
        fs::write(&file.0, "%% ours\n[{server, [\n  {certfile \"x\"}]}].\n").unwrap();
        let error = Tls::from_optfile(&file.0).unwrap_err();
        assert!(error.to_string().ends_with(", line 3"), "{error}");
        fs::write(&file.0, "[{client, []}].").unwrap();
        let error = Tls::from_optfile(&file.0).unwrap_err();
        assert_eq!(error.to_string(), "TLS, server: certfile is missing");
    }
}
