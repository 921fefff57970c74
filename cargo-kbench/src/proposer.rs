//! A program that hands in sources as variants, an LLM's client for instance. What is said to it, and what it answers, is
//! [`protocol`]. Whatever it does costs itself alone.

use std::path::Path;
use std::time::Instant;

use kbench_runtime::protocol::DeviceInfo;
use serde::Serialize;

use crate::config::Kernel;
use crate::executor::Worker;
use crate::external::{Refusal, start};
use protocol::{Answer, LONGEST, MOST, Propose, Request, VERSION};

pub mod protocol;

/// Most bytes of a line: a source in JSON is longer than itself, six times at most.
const LONGEST_LINE: u64 = 6 * LONGEST as u64 + 4096;

/// A running proposer; dropping it ends its process group.
pub struct Proposer {
    worker: Worker,
}

impl Proposer {
    /// Starts a proposer and tells it what is tuned.
    pub fn start(
        command: &[String],
        directory: &Path,
        kernel: protocol::Kernel,
        device: &DeviceInfo,
        until: Instant,
    ) -> Result<Self, Refusal> {
        let words: Vec<&String> = command.iter().collect();
        let mut proposer = Self { worker: start(&words, directory, false, LONGEST_LINE)? };
        let (kernel, device) = (Box::new(kernel), Box::new(device.clone()));
        proposer.worker.send(&Request::Hello { protocol: VERSION, kernel, device });
        match proposer.wait(until)? {
            Answer::Hello { protocol: VERSION } => Ok(proposer),
            Answer::Hello { protocol } => {
                Err(Refusal::protocol(format!("it speaks protocol {protocol}, this is {VERSION}")))
            }
            _ => Err(Refusal::protocol("it did not begin with `hello`")),
        }
    }

    /// Has it propose, until then at most.
    pub fn round(&mut self, round: protocol::Round, until: Instant) -> Result<Vec<Propose>, Refusal> {
        self.worker.send(&Request::Round(Box::new(round)));
        let mut proposals = Vec::new();
        loop {
            match self.wait(until)? {
                Answer::Propose(_) if proposals.len() == MOST => {
                    return Err(Refusal::protocol(format!("more than {MOST} proposals in a round")));
                }
                Answer::Propose(proposal) => proposals.push(proposal),
                Answer::Done => return Ok(proposals),
                Answer::Hello { .. } => return Err(Refusal::protocol("`hello` in a round")),
            }
        }
    }

    /// Tells it what came of a proposal.
    pub fn tell(&self, verdict: protocol::Verdict) {
        self.worker.send(&Request::Verdict(Box::new(verdict)));
    }

    fn wait(&mut self, until: Instant) -> Result<Answer, Refusal> {
        let left = until.saturating_duration_since(Instant::now());
        self.worker.wait(|_| None, &mut |_| left).map_err(Refusal::of)
    }
}

impl protocol::Kernel {
    /// What a proposer is told of a kernel whose source has this text.
    pub fn of(kernel: &Kernel, text: &str) -> Self {
        let space = &kernel.space;
        let shapes = kernel.shapes.iter().filter(|shape| !shape.check_only);
        Self {
            package: kernel.package.clone(),
            name: kernel.name.clone(),
            backend: name(kernel.implementation.backend),
            entry: kernel.implementation.entry.clone(),
            source: kernel.implementation.source.clone(),
            text: text.to_owned(),
            flags: kernel.implementation.flags.clone(),
            toggles: space
                .toggles
                .iter()
                .map(|toggle| protocol::Toggle { name: toggle.name.clone(), values: toggle.values.clone() })
                .collect(),
            constraints: space.constraints.iter().map(|constraint| constraint.text().to_owned()).collect(),
            default: space.settings(&space.default),
            shapes: shapes.map(|shape| (shape.name.clone(), shape.dims.iter().cloned().collect())).collect(),
            shape: kernel.shapes[kernel.search.shape].name.clone(),
        }
    }
}

/// A unit variant's name as users write it.
fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("not a unit variant: {other:?}"),
    }
}
