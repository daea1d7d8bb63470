//! Faults that the oracle plants into the verifiers, to prove that it would see them.
//!
//! Every rule is generic over [`Faults`]. Production passes [`Exact`], whose answer is the constant
//! `false`: the compiler removes the branches. The oracle passes [`Planted`], one mutation at a
//! time, and each must move the enumerated law.

/// One deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutation {
    /// Accept with `q / p`.
    SwapTest,
    /// Accept with the square root of `p / q`.
    SoftTest,
    /// Residual `(q - p)+`.
    SwapResidual,
    /// Residual drawn from `p` itself.
    TargetResidual,
    /// Residual drawn from `q`.
    DraftResidual,
    /// A residual is tested again without being renormalised.
    KeepMass,
    /// A rejected sibling keeps its mass in the draft law.
    KeepRemoved,
    /// The draft law is not renormalised after a removal.
    KeepDraftMass,
    /// Further tests of a node read the first test's uniform.
    ReuseNoise,
    /// The drawn sibling that the target likes least is dropped before verification.
    PruneByIdentity,
    /// Repeated draws are dropped, the rest tested as independent.
    DropDuplicate,
    /// Siblings are tested last draw first.
    ReverseOrder,
    /// The target row of the parent is read, off by one.
    ParentRow,
    /// The first drafted token is never tested.
    SkipFirstTest,
    /// Only the sibling that the target likes best is tested.
    BestSibling,
    /// Each sibling is compared with a fresh draw of the target.
    FreshDraw,
    /// The path weight is not capped at one.
    Uncapped,
    /// Block verification stops at the first failed test.
    FirstFailureStops,
    /// Path residual `(p - q)+` without the path weight.
    PlainResidual,
    /// The test divides by `Z + 1` instead of `Z + 1 - P`.
    ForgetDeficit,
    /// Traversal: the weight of a node stays as it was after a child was deleted.
    StaleWeight,
    /// Traversal: the law of a node stays as it was after a child was deleted.
    StaleLaw,
    /// The unskewed or unrestricted `q` where the rule needs the law derived from it.
    PlainDraft,
    /// One draft too few is counted.
    CountOneLess,
    /// k-SEQ with division factor 1.
    UnitRho,
    /// Children chosen without chance are tested as if they had been drawn.
    ChosenAsDrawn,
    /// Drawn children are left to the membership check, others' tests notwithstanding.
    DrawnAsChosen,
    /// SpecHub: the top token may take all that the draws left over, twice.
    DoubleTop,
}

/// Every mutation.
pub const MUTATIONS: [Mutation; 28] = [
    Mutation::SwapTest,
    Mutation::SoftTest,
    Mutation::SwapResidual,
    Mutation::TargetResidual,
    Mutation::DraftResidual,
    Mutation::KeepMass,
    Mutation::KeepRemoved,
    Mutation::KeepDraftMass,
    Mutation::ReuseNoise,
    Mutation::PruneByIdentity,
    Mutation::DropDuplicate,
    Mutation::ReverseOrder,
    Mutation::ParentRow,
    Mutation::SkipFirstTest,
    Mutation::BestSibling,
    Mutation::FreshDraw,
    Mutation::Uncapped,
    Mutation::FirstFailureStops,
    Mutation::PlainResidual,
    Mutation::ForgetDeficit,
    Mutation::StaleWeight,
    Mutation::StaleLaw,
    Mutation::PlainDraft,
    Mutation::CountOneLess,
    Mutation::UnitRho,
    Mutation::ChosenAsDrawn,
    Mutation::DrawnAsChosen,
    Mutation::DoubleTop,
];

/// Which faults are planted.
pub trait Faults {
    /// Whether this fault is.
    fn has(&self, mutation: Mutation) -> bool;
}

/// None.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Faults for Exact {
    #[inline]
    fn has(&self, _mutation: Mutation) -> bool {
        false
    }
}

/// One.
#[derive(Debug, Clone, Copy)]
pub struct Planted(pub Mutation);

impl Faults for Planted {
    fn has(&self, mutation: Mutation) -> bool {
        self.0 == mutation
    }
}
