//! A signature's condition: a small boolean program over bits.

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Holds,
    Fails,
    /// It depends on a bit that is not known yet.
    DependsOn(usize),
}

/// A condition over bits.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Bit(usize),
}

impl Node {
    /// Evaluates with what is known so far: nothing is asked for that cannot change the outcome.
    pub(super) fn verdict(&self, bit: &impl Fn(usize) -> Option<bool>) -> Verdict {
        let settled = |parts: &[Node], settles: Verdict, otherwise: Verdict| {
            let mut open = otherwise;
            for part in parts {
                match part.verdict(bit) {
                    verdict if verdict == settles => return settles,
                    Verdict::DependsOn(bit) if open == otherwise => open = Verdict::DependsOn(bit),
                    _ => {}
                }
            }
            open
        };
        match self {
            Self::All(parts) => settled(parts, Verdict::Fails, Verdict::Holds),
            Self::Any(parts) => settled(parts, Verdict::Holds, Verdict::Fails),
            Self::Not(part) => match part.verdict(bit) {
                Verdict::Holds => Verdict::Fails,
                Verdict::Fails => Verdict::Holds,
                open => open,
            },
            Self::Bit(number) => match bit(*number) {
                Some(true) => Verdict::Holds,
                Some(false) => Verdict::Fails,
                None => Verdict::DependsOn(*number),
            },
        }
    }

    fn holds(&self, bit: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(bit)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(bit)),
            Self::Not(part) => !part.holds(bit),
            Self::Bit(number) => bit(*number),
        }
    }

    /// The bits that make a node hold, which it does.
    pub(super) fn proof(&self, bit: &impl Fn(usize) -> bool, bits: &mut Vec<usize>) {
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.proof(bit, bits)),
            Self::Any(parts) => {
                if let Some(part) = parts.iter().find(|part| part.holds(bit)) {
                    part.proof(bit, bits);
                }
            }
            Self::Not(_) => {}
            Self::Bit(number) if bits.contains(number) => {}
            Self::Bit(number) => bits.push(*number),
        }
    }
}
