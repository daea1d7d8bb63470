//! Controllers by name: `name`, `name:value,value`, `name:key=value` (commas or semicolons); lists
//! are separated by `/`.

use super::{
    BestLength, Confidence, Controller, Disco, DraftVerify, Exp3, Fixed, PearlLength, Schedule,
    SpecDecPp, Svip, Thompson, Ucb,
};
use std::fmt;
use std::str::FromStr;
use trivium_core::error::{Error, Result};

/// Most arms of a bandit.
pub const MAX_ARMS: usize = 16;

/// Draft lengths that a bandit chooses from: distinct, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arms {
    lengths: [u16; MAX_ARMS],
    len: u8,
}

impl Arms {
    /// One to 16 distinct lengths.
    ///
    /// # Errors
    /// `InvalidInput` otherwise.
    pub fn new(lengths: &[usize]) -> Result<Self> {
        let distinct = (0..lengths.len()).all(|i| !lengths[..i].contains(&lengths[i]));
        let fits = lengths.iter().all(|&n| n < crate::MAX_NODES);
        if lengths.is_empty() || lengths.len() > MAX_ARMS || !distinct || !fits {
            return Err(Error::input(
                "arms",
                format!("{lengths:?}: need 1 to {MAX_ARMS} distinct lengths below 4096"),
            ));
        }
        let mut out = Self { lengths: [0; MAX_ARMS], len: lengths.len() as u8 };
        for (slot, &n) in out.lengths.iter_mut().zip(lengths) {
            *slot = n as u16;
        }
        Ok(out)
    }

    /// Number of arms.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length of an arm.
    pub fn get(&self, arm: usize) -> usize {
        usize::from(self.lengths[arm])
    }

    /// The arm of a length.
    pub fn position(&self, length: usize) -> Option<usize> {
        (0..self.len()).find(|&i| self.get(i) == length)
    }

    /// The longest, at least 1.
    pub fn longest(&self) -> usize {
        (0..self.len()).map(|i| self.get(i)).max().unwrap_or(1).max(1)
    }
}

impl fmt::Display for Arms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..self.len() {
            write!(f, "{}{}", if i > 0 { "/" } else { "" }, self.get(i))?;
        }
        Ok(())
    }
}

/// A value of a controller's parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(f64),
    Count(usize),
    Arms(Arms),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(x) => write!(f, "{x}"),
            Self::Count(n) => write!(f, "{n}"),
            Self::Arms(a) => write!(f, "{a}"),
        }
    }
}

/// Default arms of bandits, in drafted nodes.
const ARMS: Arms = Arms { lengths: [1, 2, 4, 8, 16, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], len: 6 };

use Value::{Arms as A, Count as C, Number as N};

/// Name and parameters (name, default, least, largest) of every controller.
type Row = (&'static str, &'static [(&'static str, Value, f64, f64)]);

const MOST: f64 = (crate::MAX_NODES - 1) as f64;

/// All controllers by name, with their parameters in positional order.
const TABLE: [Row; 15] = [
    ("fixed", &[("length", C(4), 0.0, MOST)]),
    ("constant", &[("length", C(5), 0.0, MOST)]),
    ("heuristic", &[("start", C(5), 1.0, MOST), ("max", C(63), 1.0, MOST)]),
    ("confidence", &[("threshold", N(0.4), 0.0, 1.0), ("max", C(20), 0.0, MOST)]),
    ("kangaroo", &[("threshold", N(0.6), 0.0, 1.0), ("max", C(6), 0.0, MOST)]),
    ("swift", &[("threshold", N(0.8), 0.0, 1.0), ("max", C(25), 0.0, MOST)]),
    ("draft_verify", &[("threshold", N(0.5), 0.0, 1.0), ("max", C(8), 0.0, MOST)]),
    ("svip", &[("h", N(0.3), 0.0, 1e9), ("c", N(0.15), 0.0, 1e9), ("max", C(40), 0.0, MOST)]),
    ("specdec++", &[("h", N(0.7), 0.0, 1.0), ("min", C(2), 0.0, MOST), ("max", C(20), 0.0, MOST)]),
    ("disco", &[("threshold", N(0.4), 0.0, 1.0), ("max", C(20), 0.0, MOST)]),
    ("ucb", &[("arms", A(ARMS), 0.0, 0.0), ("delta", N(0.05), 1e-12, 1.0)]),
    (
        "ucb_rate",
        &[
            ("arms", A(ARMS), 0.0, 0.0),
            ("delta", N(0.05), 1e-12, 1.0),
            ("forget", N(0.995), 0.5, 1.0),
        ],
    ),
    ("exp3", &[("arms", A(ARMS), 0.0, 0.0)]),
    (
        "thompson",
        &[
            ("max", C(20), 0.0, MOST),
            ("forget", N(0.98), 0.0, 1.0),
            ("depths", C(1), 1.0, 64.0),
            ("prior", N(0.0), 0.0, 1e6),
        ],
    ),
    ("pearl", &[("gamma", C(4), 1.0, MOST), ("max", C(63), 1.0, MOST)]),
];

/// `adaptive` has its own row: its cost may be any non-negative number.
const ADAPTIVE: Row = ("adaptive", &[("max", C(16), 0.0, MOST), ("cost", N(0.0), 0.0, 1e9)]);

/// Names of all controllers.
pub const CONTROLS: [&str; 16] = [
    "fixed",
    "constant",
    "heuristic",
    "confidence",
    "kangaroo",
    "swift",
    "draft_verify",
    "svip",
    "specdec++",
    "disco",
    "ucb",
    "ucb_rate",
    "exp3",
    "thompson",
    "pearl",
    "adaptive",
];

/// A controller as plain data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlSpec {
    /// Index into [`CONTROLS`].
    name: u8,
    values: [Option<Value>; 4],
}

fn row(name: u8) -> Row {
    TABLE.get(usize::from(name)).copied().unwrap_or(ADAPTIVE)
}

impl ControlSpec {
    /// Name of the controller.
    pub fn name(&self) -> &'static str {
        CONTROLS[usize::from(self.name)]
    }

    fn number(&self, i: usize) -> f64 {
        match self.values[i] {
            Some(N(x)) => x,
            _ => 0.0,
        }
    }

    fn count(&self, i: usize) -> usize {
        match self.values[i] {
            Some(C(n)) => n,
            _ => 0,
        }
    }

    fn arms(&self) -> Arms {
        match self.values[0] {
            Some(A(a)) => a,
            _ => ARMS,
        }
    }

    /// A controller in its first state.
    pub fn build(&self) -> Box<dyn Controller> {
        let (n, c) = (|i| self.number(i), |i| self.count(i));
        match self.name() {
            "fixed" | "constant" => Box::new(Fixed(c(0))),
            "heuristic" => Box::new(Schedule::new(c(0), c(1))),
            "confidence" | "kangaroo" | "swift" => {
                Box::new(Confidence { threshold: n(0), max: c(1) })
            }
            "draft_verify" => Box::new(DraftVerify::new(n(0), c(1))),
            "svip" => Box::new(Svip { h: n(0), c: n(1), max: c(2) }),
            "specdec++" => Box::new(SpecDecPp::new(n(0), c(1), c(2))),
            "disco" => Box::new(Disco::new(n(0), c(1))),
            "ucb" => Box::new(Ucb::new(self.arms(), n(1))),
            "ucb_rate" => Box::new(Ucb::rate(self.arms(), n(1), n(2))),
            "exp3" => Box::new(Exp3::new(self.arms())),
            "thompson" => Box::new(Thompson::new(c(0), n(1), c(2), n(3))),
            "pearl" => Box::new(PearlLength::new(c(0), c(1))),
            _ => Box::new(BestLength::new(c(0), n(1))),
        }
    }
}

impl fmt::Display for ControlSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let (_, parameters) = row(self.name);
        for (i, ((key, ..), value)) in parameters.iter().zip(self.values).enumerate() {
            if let Some(value) = value {
                write!(f, "{}{key}={value}", if i == 0 { ":" } else { "," })?;
            }
        }
        Ok(())
    }
}

/// One parameter's text, of the kind of its default and within its range.
fn parse(
    what: &str,
    text: &str,
    (_, default, low, high): &(&str, Value, f64, f64),
) -> Result<Value> {
    let bad = |why: String| Error::input("policy", format!("{what}: {text:?} {why}"));
    match default {
        A(_) => {
            let lengths = text
                .split('/')
                .map(|n| n.trim().parse::<usize>())
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|_| bad("is no list of lengths such as 1/2/4/8".into()))?;
            Ok(A(Arms::new(&lengths)?))
        }
        C(_) => match text.parse::<usize>() {
            Ok(n) if (*low..=*high).contains(&(n as f64)) => Ok(C(n)),
            _ => Err(bad(format!("is no whole number in {low}..={high}"))),
        },
        N(_) => match text.parse::<f64>() {
            Ok(x) if (*low..=*high).contains(&x) => Ok(N(x)),
            _ => Err(bad(format!("is no number in {low}..={high}"))),
        },
    }
}

impl FromStr for ControlSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let Some(at) = CONTROLS.iter().position(|c| *c == name) else {
            return Err(Error::unsupported(
                format!("policy {text:?}"),
                "in Speculator",
                format!("the policies are auto, full, {}", CONTROLS.join(", ")),
            ));
        };
        let (_, parameters) = row(at as u8);
        let mut values = [None; 4];
        for (slot, p) in values.iter_mut().zip(parameters) {
            *slot = Some(p.1);
        }
        for (i, part) in rest.iter().flat_map(|r| r.split([',', ';'])).enumerate() {
            let (slot, value) = match part.split_once('=') {
                Some((key, value)) => {
                    let slot = parameters.iter().position(|p| p.0 == key.trim());
                    (slot, value.trim())
                }
                None => ((i < parameters.len()).then_some(i), part.trim()),
            };
            let Some(slot) = slot else {
                let names: Vec<_> = parameters.iter().map(|p| p.0).collect();
                return Err(Error::input(
                    "policy",
                    format!("{name} has no parameter {part:?}; it has {}", names.join(", ")),
                ));
            };
            values[slot] =
                Some(parse(&format!("{name}:{}", parameters[slot].0), value, &parameters[slot])?);
        }
        Ok(Self { name: at as u8, values })
    }
}

#[cfg(test)]
mod tests {
    use super::super::StepCtx;
    use super::*;
    use trivium_core::Address;

    #[test]
    fn every_name_builds_and_its_text_is_itself() {
        for (i, name) in CONTROLS.into_iter().enumerate() {
            assert_eq!(row(i as u8).0, name);
            let spec: ControlSpec = name.parse().unwrap();
            assert_eq!(spec.to_string().parse::<ControlSpec>().unwrap(), spec);
            let c = spec.build();
            assert!(c.length(StepCtx::alone(Address::new(1, 2, 3))) <= 63, "{name}");
        }
    }

    #[test]
    fn parameters_by_place_or_by_name() {
        let length = |s: &str| {
            let c = s.parse::<ControlSpec>().unwrap().build();
            c.length(StepCtx::alone(Address::new(0, 0, 0)))
        };
        assert_eq!(length("fixed:7"), 7);
        assert_eq!(length("svip:0.5,max=9"), 9);
        assert_eq!(length("ucb:3/5"), 3);
        assert_eq!(
            "svip:0.5".parse::<ControlSpec>().unwrap().to_string(),
            "svip:h=0.5,c=0.15,max=40"
        );
        for bad in [
            "ucbb",
            "svip:x",
            "svip:-1",
            "ucb:",
            "ucb:1/1",
            "fixed:1,2",
            "fixed:k=3",
            "fixed:5000",
            "thompson:4,2",
            "exp3:1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
        ] {
            assert!(bad.parse::<ControlSpec>().is_err(), "{bad}");
        }
    }
}
