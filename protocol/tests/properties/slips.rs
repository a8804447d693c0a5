//! Rules told wrongly: each must show as a difference between model and code in some scenario.

/// One rule of the view, told wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    /// Equals strike each other.
    EqualsStrike,
    /// A cut keeps nothing.
    KeepsNothing,
    /// A cut keeps its heads and not what lies before them.
    KeepsHeadsAlone,
    /// Nobody is spared.
    SparesNothing,
    /// What lies before the spared is spared too.
    SparesPasts,
    /// A grant in knowledge of a revocation undoes it, whoever gives it.
    AnybodyRestores,
    /// A senior's grant undoes a revocation that it has not heard.
    UnheardRestores,
    /// A re-grant undoes no revocation.
    NobodyRestores,
    /// A junior's revocation ends a senior's title.
    AnybodyEndsTitles,
    /// Of equal titles the first counts, not the last.
    FirstTitleCounts,
    /// An admit lets in whom a revocation put out.
    AdmitsRestore,
    /// A code lives on without its issuer.
    DeadIssuersInvite,
    /// Closing a code does nothing.
    ClosesCloseNothing,
    /// A code lives on when one that used it is revoked.
    RevokedUsersInvite,
    /// A revoked device's mere admit closes a code.
    AdmitsClose,
    /// A code lets in one more than it says.
    OneMore,
    /// Names and addresses go by op order, whoever granted.
    FirstComeFirstNamed,
    /// What is reserved is free to anybody.
    AnybodyTakesOver,
    /// What is reserved is free to nobody.
    NobodyTakesOver,
    /// Of equal epochs and bases the junior's wins.
    JuniorsWin,
    /// A closed code never makes the epoch dirty.
    ClosesAreClean,
    /// A policy whose author fell never existed.
    PoliciesVanish,
    /// A policy whose author's grant is of a later version never existed.
    UnreadOpens,
    /// What an author has not heard it may cite.
    UnheardIsCited,
    /// Cut and spared ops may lie anywhere.
    CutsAnything,
    /// A device may revoke itself.
    SelfRevokes,
    /// An epoch need only be higher.
    EpochsSkip,
    /// A junior may close a senior's code.
    JuniorsClose,
    /// A level may be granted by its holders.
    EqualsGrant,
    /// What a right gives may outlive it.
    OutlivesAuthor,
}

impl Slip {
    /// All of them.
    pub(crate) const ALL: [Self; 30] = [
        Self::EqualsStrike,
        Self::KeepsNothing,
        Self::KeepsHeadsAlone,
        Self::SparesNothing,
        Self::SparesPasts,
        Self::AnybodyRestores,
        Self::UnheardRestores,
        Self::NobodyRestores,
        Self::AnybodyEndsTitles,
        Self::FirstTitleCounts,
        Self::AdmitsRestore,
        Self::DeadIssuersInvite,
        Self::ClosesCloseNothing,
        Self::RevokedUsersInvite,
        Self::AdmitsClose,
        Self::OneMore,
        Self::FirstComeFirstNamed,
        Self::AnybodyTakesOver,
        Self::NobodyTakesOver,
        Self::JuniorsWin,
        Self::ClosesAreClean,
        Self::PoliciesVanish,
        Self::UnreadOpens,
        Self::UnheardIsCited,
        Self::CutsAnything,
        Self::SelfRevokes,
        Self::EpochsSkip,
        Self::JuniorsClose,
        Self::EqualsGrant,
        Self::OutlivesAuthor,
    ];
}
