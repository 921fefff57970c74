//! A program that proposes sources as variants, such as a client of an LLM. [`protocol`] has the messages of both
//! sides. A failure of the program ends only the program.

use std::path::Path;
use std::time::Instant;

use kbench_runtime::protocol::DeviceInfo;

use crate::config::{Kernel, Launch};
use crate::expr::Expr;
use crate::process::executor::{Heard, Message, Worker};
use crate::process::program::{Refusal, start};
use protocol::{Answer, LONGEST, MOST, Propose, Request, VERSION};

pub mod protocol;

/// Largest number of bytes of a line: JSON makes a source at most six times longer.
const LONGEST_LINE: u64 = 6 * LONGEST as u64 + 4096;

impl Message for Answer {}

/// A running proposer; dropping it ends its process group.
pub struct Proposer {
    worker: Worker,
}

impl Proposer {
    /// Starts a proposer and describes the kernel to it.
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

    /// Asks for the proposals of a round, until a deadline.
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

    /// Sends the verdict on a proposal.
    pub fn tell(&mut self, verdict: protocol::Verdict) {
        self.worker.send(&Request::Verdict(Box::new(verdict)));
    }

    fn wait(&mut self, until: Instant) -> Result<Answer, Refusal> {
        let left = until.saturating_duration_since(Instant::now());
        self.worker.wait(|_| Heard::Answer, &mut |_| left).map_err(Refusal::of)
    }
}

impl protocol::Kernel {
    /// Description of a kernel for a proposer; `text` is the kernel's source.
    pub fn of(kernel: &Kernel, source: &str) -> Self {
        let space = &kernel.space;
        let texts = |exprs: &[Expr]| exprs.iter().map(|expr| expr.text().to_owned()).collect();
        let own = &kernel.implementation;
        let first = &own.launches[0];
        let text = |expr: Option<&Expr>| expr.map(|expr| expr.text().to_owned());
        let launch = |launch: &Launch| protocol::Launch {
            entry: launch.entry.text().to_owned(),
            grid: texts(&launch.grid),
            block: texts(&launch.block),
            dynamic_shared: text(launch.dynamic_shared.as_ref()),
            when: text(launch.when.as_ref()),
        };
        let shapes = kernel.shapes.iter().filter(|shape| !shape.check_only);
        Self {
            package: kernel.package.clone(),
            name: kernel.name.clone(),
            backend: own.backend.name().to_owned(),
            entry: first.entry.text().to_owned(),
            source: own.source.clone(),
            text: source.to_owned(),
            flags: own.flags.iter().map(|flag| flag.text.text().to_owned()).collect(),
            grid: texts(&first.grid),
            block: texts(&first.block),
            dynamic_shared: text(first.dynamic_shared.as_ref()),
            launches: if own.launches.len() > 1 { own.launches.iter().map(launch).collect() } else { Vec::new() },
            defines: own.defines.iter().map(|(name, value)| (name.clone(), value.text().to_owned())).collect(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kbench_runtime::protocol::DeviceInfo;
    use kbench_runtime::protocol::Failure;

    use super::*;

    fn kernel() -> protocol::Kernel {
        protocol::Kernel {
            package: "p".into(),
            name: "k".into(),
            backend: "c".into(),
            entry: "k".into(),
            source: "/k.c".into(),
            text: "void k(void) {}".into(),
            flags: vec![],
            grid: vec![],
            block: vec![],
            dynamic_shared: None,
            launches: vec![],
            defines: [].into(),
            toggles: vec![],
            constraints: vec![],
            default: crate::space::Settings::default(),
            shapes: [].into(),
            shape: "s".into(),
        }
    }

    fn start_with(script: &str, seconds: u64) -> Result<Proposer, Refusal> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let until = Instant::now() + Duration::from_secs(seconds);
        Proposer::start(&command, Path::new("."), kernel(), &DeviceInfo::fake(0), until)
    }

    fn round() -> protocol::Round {
        protocol::Round { round: 1, left: 1, elite: vec![], rejects: vec![], profile: None }
    }

    #[test]
    fn a_silent_proposer_is_ended() {
        let Err(Refusal::Failure(Failure::Hang { .. })) = start_with("sleep 100", 0) else {
            panic!("it was waited for")
        };
        let hello = r#"echo '{"type":"hello","protocol":1}'; sleep 100"#;
        let mut proposer = start_with(hello, 60).map_err(|why| format!("{why:?}")).unwrap();
        let refusal = proposer.round(round(), Instant::now()).unwrap_err();
        assert!(matches!(refusal, Refusal::Failure(Failure::Hang { .. })), "{refusal:?}");
    }

    #[test]
    fn unexpected_messages_are_protocol_errors() {
        let said = |script: &str| match start_with(script, 60)
            .and_then(|mut proposer| proposer.round(round(), Instant::now() + Duration::from_secs(60)))
        {
            Err(refusal) => refusal.reason().unwrap().1,
            Ok(proposals) => panic!("{proposals:?}"),
        };
        assert!(said(r#"echo '{"type":"done"}'"#).contains("did not begin with `hello`"));
        let hello = r#"echo '{"type":"hello","protocol":1}'"#;
        assert!(said(&format!("{hello}; {hello}; read x")).contains("`hello` in a round"));
        assert!(said(&format!(r#"{hello}; echo '{{"type":"propose","name":"a"}}'; read x"#)).contains("source"));
        assert!(said(&format!(r#"{hello}; echo '{{"type":"sing"}}'; read x"#)).contains("sing"));
    }
}
