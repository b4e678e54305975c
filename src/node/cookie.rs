//! The cookie, the secret that the nodes of a cluster share.
//!
//! Two nodes prove to each other that they know it by [`Cookie::digest`] of a number the other one
//! chose. It proves no more than that: it encrypts nothing, and whoever has it may do anything on
//! every node of the cluster. So nothing here prints it; there is no `Display`, and `Debug` hides
//! it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`Cookie::from_env`] reads. OTP has no such variable.
const VARIABLE: &str = "DATA_PUBLISHER_COOKIE";

/// Bytes at which a file is no cookie file; a cookie has at most 255 characters.
const MAX_FILE: u64 = 4096;

/// The secret of a cluster: 1 to 255 characters of Latin-1.
#[derive(Clone, Eq, PartialEq)]
pub struct Cookie(Arc<[u8]>);

impl Cookie {
    /// The cookie of this text, as given to `erl -setcookie`.
    ///
    /// # Errors
    ///
    /// [`CookieError::Empty`], [`CookieError::TooLong`] above 255 characters, and
    /// [`CookieError::BadCharacter`] for one above U+00FF: OTP's `erlang:md5` can't digest it.
    pub fn new(text: &str) -> Result<Self, CookieError> {
        // One byte for a character up to U+00FF, as `atom_to_list/1` has it.
        let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
        match bytes {
            Err(_) => Err(CookieError::BadCharacter),
            Ok(bytes) if bytes.is_empty() => Err(CookieError::Empty),
            Ok(bytes) if bytes.len() > 255 => Err(CookieError::TooLong),
            Ok(bytes) => Ok(Self(bytes.into())),
        }
    }

    /// The cookie in a file: its first line. Blanks at the end of that line belong to the cookie,
    /// blanks and line ends after it don't matter, as in OTP.
    ///
    /// # Errors
    ///
    /// [`CookieError::Unreadable`], or what OTP refuses: [`CookieError::BadFile`] for anything but
    /// one line of printable ASCII.
    ///
    /// Source: `auth:check_cookie/2`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, CookieError> {
        let path = path.as_ref();
        let unreadable = |source| CookieError::Unreadable { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(CookieError::BadFile { path: path.to_owned() });
        }
        let content = std::fs::read(path).map_err(unreadable)?;
        Self::from_content(&content).ok_or_else(|| CookieError::BadFile { path: path.to_owned() })
    }

    /// The cookie the Erlang nodes of this user share: in `$HOME/.erlang.cookie`, or else in
    /// `$XDG_CONFIG_HOME/erlang/.erlang.cookie` (default `~/.config`).
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file); [`CookieError::NoFile`] when there is neither;
    /// [`CookieError::Exposed`] when others may read it, which OTP doesn't accept either.
    pub fn from_home() -> Result<Self, CookieError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from);
        let config = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join(".config")));
        let files = [
            home.map(|home| home.join(".erlang.cookie")),
            config.map(|config| config.join("erlang/.erlang.cookie")),
        ];
        Self::from_first(files.into_iter().flatten().collect())
    }

    /// The cookie in the environment variable `DATA_PUBLISHER_COOKIE`, or else that of
    /// [`from_home`](Self::from_home).
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub fn find() -> Result<Self, CookieError> {
        match Self::from_env() {
            Err(CookieError::NotSet) => Self::from_home(),
            found => found,
        }
    }

    /// The cookie in the environment variable `DATA_PUBLISHER_COOKIE`.
    ///
    /// # Errors
    ///
    /// [`CookieError::NotSet`], or as [`new`](Self::new).
    pub fn from_env() -> Result<Self, CookieError> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::new(&text),
            Err(std::env::VarError::NotPresent) => Err(CookieError::NotSet),
            Err(std::env::VarError::NotUnicode(_)) => Err(CookieError::BadCharacter),
        }
    }

    /// What proves knowledge of the cookie to the node that chose `challenge`: MD5 of the cookie
    /// and the challenge's decimal digits.
    ///
    /// Source: `dist_util:gen_digest/2`.
    pub fn digest(&self, challenge: u32) -> [u8; 16] {
        let mut md5 = md5::Context::new();
        md5.consume(&self.0);
        md5.consume(challenge.to_string());
        md5.finalize().0
    }

    fn from_first(files: Vec<PathBuf>) -> Result<Self, CookieError> {
        match files.iter().find(|file| file.exists()) {
            None => Err(CookieError::NoFile { files }),
            Some(file) if is_exposed(file) => Err(CookieError::Exposed { path: file.clone() }),
            Some(file) => Self::from_file(file),
        }
    }

    fn from_content(content: &[u8]) -> Option<Self> {
        let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
        let end = content.iter().position(|byte| !is_printable(byte)).unwrap_or(content.len());
        let (cookie, rest) = content.split_at(end);
        if rest.iter().all(|byte| b"\n\r ".contains(byte)) {
            Self::new(std::str::from_utf8(cookie).ok()?).ok()
        } else {
            None
        }
    }
}

/// Whether others than the file's owner may read or write it.
#[cfg(unix)]
fn is_exposed(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// Why there is no cookie. Never holds any part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// A cookie of no characters.
    #[error("the cookie is empty; give the one the other nodes have")]
    Empty,
    /// More than 255 characters.
    #[error("the cookie has more than 255 characters; Erlang takes no longer one")]
    TooLong,
    /// A character above U+00FF.
    #[error("the cookie has a character outside Latin-1, which no Erlang node can use; change it")]
    BadCharacter,
    /// The variable of [`Cookie::from_env`] isn't there.
    #[error("{VARIABLE} isn't set; set it to the cookie of the other nodes")]
    NotSet,
    /// No file where Erlang's nodes keep it.
    #[error(
        "no cookie file at {}; start an Erlang node once, which makes one, or give the cookie",
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoFile {
        /// Where it was looked for.
        files: Vec<PathBuf>,
    },
    /// Others may read or write the cookie file.
    #[error("others can read the cookie file {0}; run: chmod 400 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read.
    #[error("can't read the cookie file {}; check its path and owner", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else than a cookie.
    #[error("{} holds no cookie; it takes one line of 1 to 255 printable ASCII characters", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: [u8; 16]) -> String {
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// A folder of this test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("dp-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
            let file = self.0.join(name);
            std::fs::write(&file, content).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let _ = mode;
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_digest_is_md5_of_the_cookie_and_the_decimal_challenge() {
        // $ printf 'monster12345' | md5sum
        let cookie = Cookie::new("monster").unwrap();
        assert_eq!(hex(cookie.digest(12_345)), "a5ed80015fecaf4c95df69831987c39e");
        assert_ne!(cookie.digest(u32::MAX), cookie.digest(0));
    }

    #[test]
    fn a_latin_1_character_is_one_byte_of_the_digest() {
        // $ printf 'm\374nze7' | md5sum
        assert_eq!(
            hex(Cookie::new("münze").unwrap().digest(7)),
            "504e662c5c4a8f30911b49591aea946a"
        );
    }

    #[test]
    fn debug_hides_the_cookie() {
        let cookie = Cookie::new("monster").unwrap();
        assert_eq!(format!("{cookie:?} {:?}", Some(&cookie)), "Cookie(..) Some(Cookie(..))");
    }

    #[test]
    fn a_cookie_has_1_to_255_characters_of_latin_1() {
        assert!(matches!(Cookie::new(""), Err(CookieError::Empty)));
        assert!(matches!(Cookie::new("łatwe"), Err(CookieError::BadCharacter)));
        assert!(matches!(Cookie::new(&"a".repeat(256)), Err(CookieError::TooLong)));
        assert!(Cookie::new(&"ÿ".repeat(255)).is_ok());
    }

    #[test]
    fn a_file_is_read_as_otp_reads_it() {
        let read = |content: &[u8]| Cookie::from_content(content);
        let cookie = |text| Some(Cookie::new(text).unwrap());
        assert_eq!(read(b"secret"), cookie("secret"));
        assert_eq!(read(b"secret\n"), cookie("secret"));
        assert_eq!(read(b"secret\r\n \n"), cookie("secret"));
        assert_eq!(read(b"se cret \n"), cookie("se cret "));
        for bad in [&b""[..], b"\n", b"two\nlines", b"tab\t", b"\xc3\xa9", &[b'a'; 256]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_no_cookie_is_told_with_its_path() {
        let folder = Folder::new("no-cookie");
        let missing = folder.0.join("none");
        let error = Cookie::from_file(&missing).unwrap_err();
        assert!(matches!(error, CookieError::Unreadable { .. }));
        assert!(error.to_string().contains("none"), "{error}");

        for content in [&b"two\nlines"[..], &[b'a'; 5000]] {
            let file = folder.file("bad", content, 0o400);
            let error = Cookie::from_file(&file).unwrap_err();
            assert!(matches!(error, CookieError::BadFile { .. }));
            assert!(!error.to_string().contains("two"), "{error}");
            std::fs::remove_file(file).unwrap();
        }
        assert!(matches!(Cookie::from_file(&folder.0), Err(CookieError::BadFile { .. })));
    }

    #[test]
    fn the_first_file_that_exists_counts() {
        let folder = Folder::new("first-cookie");
        let (first, second) = (folder.0.join("first"), folder.0.join("second"));
        let files = || vec![first.clone(), second.clone()];
        let error = Cookie::from_first(files()).unwrap_err();
        assert!(error.to_string().contains("first or "), "{error}");
        folder.file("second", b"two\n", 0o400);
        assert_eq!(Cookie::from_first(files()).unwrap(), Cookie::new("two").unwrap());
        folder.file("first", b"one\n", 0o600);
        assert_eq!(Cookie::from_first(files()).unwrap(), Cookie::new("one").unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_home_cookie_that_others_can_read_is_refused() {
        let folder = Folder::new("exposed-cookie");
        let file = folder.file("cookie", b"one\n", 0o440);
        let error = Cookie::from_first(vec![file.clone()]).unwrap_err();
        assert!(error.to_string().contains("chmod 400"), "{error}");
        assert!(Cookie::from_file(file).is_ok());
    }
}
