//! The command line: of the parent for users, of the child between the two.

use std::path::PathBuf;

use crate::random::Random;

const USAGE: &str = "usage: payments [--quick] [--seed N] [--dir EMPTY_DIR]";

/// What the parent is to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) payments: u32,
    pub(crate) kills: u32,
    pub(crate) seed: u64,
    /// A directory to use and to leave behind; a temporary one if not given.
    pub(crate) dir: Option<PathBuf>,
}

/// What the parent tells a child on its command line; the payments come over its standard input.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
}

/// Whose command line it is.
#[derive(Debug)]
pub(crate) enum Mode {
    Parent(Options),
    Child(Orders),
}

/// The hidden first argument of a child.
const CHILD: &str = "--child";

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Mode, String> {
        let mut options = Options {
            payments: 50_000,
            kills: 20,
            seed: Random::from_system().next_u64(),
            dir: None,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.payments, options.kills) = (10_000, 8),
                "--seed" => options.seed = number(arguments.next())?,
                "--dir" => options.dir = Some(arguments.next().ok_or(USAGE)?.into()),
                CHILD => return Orders::parse(arguments).map(Mode::Child),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Mode::Parent(options))
    }
}

impl Orders {
    /// As [`Orders::parse`] reads them.
    pub(crate) fn arguments(&self) -> [std::ffi::OsString; 3] {
        [
            CHILD.into(),
            self.dir.clone().into(),
            self.seed.to_string().into(),
        ]
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        Ok(Orders {
            dir: arguments.next().ok_or(USAGE)?.into(),
            seed: number(arguments.next())?,
        })
    }
}

fn number(argument: Option<String>) -> Result<u64, String> {
    argument
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| USAGE.into())
}
