//! What two nodes agree on in the handshake: distribution flags.
//!
//! Own code instead of `erl_dist`'s, which has `MANDATORY_25_DIGEST` at bit 36 (the prose of the
//! documents says so too; every release uses 26) and lacks the flags of OTP 29.
//!
//! Each side offers a set; what both offer is in force.

use std::fmt;

/// A set of distribution flags.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Flags(pub u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }

        const NAMES: &[(Flags, &str)] = &[$((Flags::$name, stringify!($name))),*];
    };
}

flags! {
    /// The node wants to be seen in `nodes()`. Not set: the connection is hidden.
    PUBLISHED = 0;
    /// A cache of atoms of long ago; unused.
    ATOM_CACHE = 1;
    /// References of more than one word.
    EXTENDED_REFERENCES = 2;
    /// Monitors of pids. Without it the BEAM drops them silently.
    DIST_MONITOR = 3;
    /// Funs, in a format of long ago.
    FUN_TAGS = 4;
    /// Monitors of registered names.
    DIST_MONITOR_NAME = 5;
    /// Unused.
    HIDDEN_ATOM_CACHE = 6;
    /// Funs.
    NEW_FUN_TAGS = 7;
    /// Pids and ports of more than 18 bits.
    EXTENDED_PIDS_PORTS = 8;
    /// `fun M:F/A`.
    EXPORT_PTR_TAG = 9;
    /// Bit strings.
    BIT_BINARIES = 10;
    /// Floats in eight bytes.
    NEW_FLOATS = 11;
    /// Unicode in the I/O protocol.
    UNICODE_IO = 12;
    /// Lists of atoms at the start of frames, which are then of another kind.
    DIST_HDR_ATOM_CACHE = 13;
    /// Atoms with a length of one byte.
    SMALL_ATOM_TAGS = 14;
    /// Atoms in UTF-8.
    UTF8_ATOMS = 16;
    /// Maps.
    MAP_TAG = 17;
    /// Creations of 32 bits.
    BIG_CREATION = 18;
    /// Messages to pids name their sender.
    SEND_SENDER = 19;
    /// Trace labels may be any term.
    BIG_SEQTRACE_LABELS = 20;
    /// Exit reasons stand behind the control tuple, not in it.
    EXIT_PAYLOAD = 22;
    /// Large messages come in pieces; all frames are then of another kind.
    FRAGMENTS = 23;
    /// The handshake of OTP 23.
    HANDSHAKE_23 = 24;
    /// Unlinking with an id and an answer.
    UNLINK_ID = 25;
    /// Stands for all that OTP 25 demands.
    MANDATORY_25_DIGEST = 26;
    /// Spawn requests. Without it `rpc` and `spawn` fail at the caller, without traffic.
    SPAWN = 32;
    /// Asks the peer for a node name.
    NAME_ME = 33;
    /// Pids of 64 bits, ports of 64 bits, references of five words.
    V4_NC = 34;
    /// Messages to process aliases.
    ALIAS = 35;
    /// Internal to the BEAM, never on the wire.
    LOCAL_EXT = 36;
    /// OTP 29: messages with flags, among them priority.
    ALTACT_SIG = 37;
    /// OTP 29: native records; it sends them to all peers, asked or not.
    NATIVE_RECORDS = 38;
}

impl Flags {
    /// What [`Flags::MANDATORY_25_DIGEST`] stands for.
    pub const MANDATORY_25: Self = Self(0x0107_0F94);

    /// What a peer must offer: all that OTP 26 to 29 demand of theirs. OTP 25 offers it too.
    pub const REQUIRED: Self = Self(Self::MANDATORY_25.0 | Self::UNLINK_ID.0 | Self::V4_NC.0);

    /// What we offer as a hidden node; a visible one adds [`Flags::PUBLISHED`].
    ///
    /// A flag stands here once the code behind it does, since the BEAM sends what it allows.
    pub const OFFERED: Self = Self(
        Self::REQUIRED.0
            | Self::MANDATORY_25_DIGEST.0
            | Self::DIST_MONITOR.0
            | Self::DIST_MONITOR_NAME.0
            | Self::UNICODE_IO.0
            | Self::DIST_HDR_ATOM_CACHE.0
            | Self::SMALL_ATOM_TAGS.0
            | Self::SEND_SENDER.0
            | Self::BIG_SEQTRACE_LABELS.0
            | Self::EXIT_PAYLOAD.0
            | Self::FRAGMENTS.0
            | Self::SPAWN.0
            | Self::ALIAS.0
            | Self::ALTACT_SIG.0,
    );

    /// Whether frames begin with a list of atoms, which either of these two flags means.
    pub const fn has_atom_lists(self) -> bool {
        self.0 & (Self::DIST_HDR_ATOM_CACHE.0 | Self::FRAGMENTS.0) != 0
    }

    /// Whether all of `other` are in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both: the flags in force on a connection.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// With all that [`Flags::MANDATORY_25_DIGEST`] stands for, if it's here. Do this to a peer's
    /// flags before [`Flags::and`].
    #[must_use]
    pub const fn expand_digest(self) -> Self {
        if self.contains(Self::MANDATORY_25_DIGEST) { self.with(Self::MANDATORY_25) } else { self }
    }

    /// Their names, those of bits that have one.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| *name)
    }

    /// The names of the [`Flags::REQUIRED`] a peer lacks, for the error that refuses it; `None` if
    /// it lacks none. The digest counts as what it stands for.
    pub fn missing_required(self) -> Option<String> {
        let missing = Self(Self::REQUIRED.0 & !self.expand_digest().0);
        (missing != Self::default()).then(|| missing.to_string())
    }
}

/// `UNLINK_ID|V4_NC`; bits without a name in hexadecimal.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut bar = "";
        for (flag, name) in NAMES {
            if self.contains(*flag) {
                write!(f, "{bar}{name}")?;
                bar = "|";
                rest &= !flag.0;
            }
        }
        if rest != 0 || self.0 == 0 {
            write!(f, "{bar}{rest:#x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What real nodes sent, hidden.
    const OTP_25_AND_27: Flags = Flags(0xD_07DF_7FBC);
    const OTP_29: Flags = Flags(0x6D_07DF_7FBC);

    #[test]
    fn the_offer_is_the_one_that_was_tried_with_otp_25_27_and_29() {
        assert_eq!(Flags::OFFERED.0, 0x2D_07DF_7FBC);
        assert_eq!(Flags::REQUIRED.0, 0x4_0307_0F94);
        assert_eq!(Flags::OFFERED.missing_required(), None);
    }

    #[test]
    fn real_nodes_offer_all_we_require() {
        for flags in [OTP_25_AND_27, OTP_29, Flags(OTP_29.0 | 1)] {
            assert_eq!(flags.missing_required(), None);
        }
    }

    #[test]
    fn a_peer_that_sends_the_digest_need_not_send_what_it_stands_for() {
        let peer = Flags::MANDATORY_25_DIGEST.with(Flags::UNLINK_ID).with(Flags::V4_NC);
        assert_eq!(peer.missing_required(), None);
        assert!(peer.expand_digest().and(Flags::OFFERED).contains(Flags::REQUIRED));
    }

    #[test]
    fn a_digest_at_bit_36_is_no_digest() {
        let peer = Flags(1 << 36).with(Flags::UNLINK_ID).with(Flags::V4_NC);
        assert!(peer.missing_required().is_some());
    }

    #[test]
    fn a_missing_flag_is_named() {
        let peer = Flags::MANDATORY_25_DIGEST;
        assert_eq!(peer.missing_required().as_deref(), Some("UNLINK_ID|V4_NC"));
    }

    #[test]
    fn a_bit_without_a_name_is_shown_as_a_number() {
        assert_eq!(Flags(1 << 50 | 1).to_string(), "PUBLISHED|0x4000000000000");
        assert_eq!(Flags(0).to_string(), "0x0");
    }
}
