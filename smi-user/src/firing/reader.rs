//! Reads the counter of all CPUs before SMIs are fired and after.

use anyhow::Result;

use super::outcome::{Counted, Moved};
use crate::{
    counter::{self, Counter, Counting},
    kernel::cpus::CpuList,
};

/// The counter of all CPUs, if this machine has one.
pub enum Reader {
    /// It has one.
    Counts {
        /// What counts.
        counter: Box<dyn Counter>,
        /// It at work.
        counting: Box<dyn Counting>,
        /// First reading of each CPU.
        before: Vec<(u32, u64)>,
    },
    /// Why it has none.
    None(String),
}

impl Reader {
    /// Reads the one of that choice for the first time.
    ///
    /// # Errors
    /// When the counter there is cannot be read.
    pub fn open(choice: counter::Choice, online: &CpuList) -> Result<Self> {
        let counter = match counter::chosen(choice) {
            Ok(Some(counter)) => counter,
            Ok(None) => return Ok(Self::None("none was asked for".to_owned())),
            Err(why) => return Ok(Self::None(why.to_string())),
        };
        let mut counting = counter.open(online)?;
        let before = online
            .iter()
            .map(|cpu| Ok((cpu, counting.read(cpu)?)))
            .collect::<Result<_>>()?;
        Ok(Self::Counts {
            counter,
            counting,
            before,
        })
    }

    /// Reads it again, and says on standard error what could not be read.
    ///
    /// # Errors
    /// When there is none: says why.
    pub fn finish(&mut self) -> Result<Counted, String> {
        match self {
            Self::None(why) => Err(why.clone()),
            Self::Counts {
                counter,
                counting,
                before,
            } => Ok(Counted {
                source: counter.source(),
                caveats: counter::caveats(counter.as_ref()),
                exact: counter.is_exact(),
                cpus: before
                    .iter()
                    .map(|&(cpu, before)| Moved {
                        cpu,
                        before,
                        after: counting
                            .read(cpu)
                            .inspect_err(|error| eprintln!("smilat: {error}"))
                            .ok(),
                    })
                    .collect(),
            }),
        }
    }
}
