//! Ways in which the protocol could be wrong. A search for violations that lets one of them live
//! proves nothing, so `cargo xtask sim --mutants` runs each until it is caught.

use std::fmt;

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident = $name:literal;)*) => {
        /// One way in which the protocol could be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)*
                }
            }
        }
    };
}

mutants! {
    /// The store does not look at the fence of a write.
    NoFence = "no-fence";
    /// The store looks at the fence first and writes later, without a lock in between.
    PlainCheck = "plain-check";
    /// Trust counts from when the answer came, not from before the request was sent.
    RenewFromAnswer = "renew-from-answer";
    /// A node trusts a lease as long as the store does, to the last moment.
    NoMargin = "no-margin";
    /// A node measures its trust by its wall clock.
    WallClock = "wall-clock";
    /// Whether a lease has expired is judged by the clock of the node that wants it.
    ExpiryByNodeClock = "expiry-by-node-clock";
    /// A node that takes up its own lease again keeps the epoch.
    EpochStaysOnRestart = "epoch-stays-on-restart";
    /// A lease that is let go counts its epochs anew.
    EpochResetOnRelease = "epoch-reset-on-release";
    /// A lease is let go as soon as its hosts are told to stop.
    ReleaseBeforeReturn = "release-before-return";
    /// A lease is taken before it has expired, without anything against its holder.
    NoEvidence = "no-evidence";
    /// A group with effects outside is taken as soon as its owner's connection is gone.
    ExternalOnConnectionGone = "external-on-connection-gone";
    /// The receipt is written by another transaction than the message.
    ReceiptApart = "receipt-apart";
    /// The source is removed before its message is committed.
    RemoveFirst = "remove-first";
    /// What an owner tidies up it tidies up without a fence.
    UnfencedCleanup = "unfenced-cleanup";
    /// After an outage of the store, what expired meanwhile may be taken at once.
    ReturnWithoutGrace = "return-without-grace";
    /// A lease is given to whoever asks, whatever happened since it was looked at.
    NoCompareAndSet = "no-compare-and-set";
}

impl Mutant {
    /// The mutant of this name.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
