//! Flags of `autotune` that take the place of the table's `search`.

use std::path::PathBuf;

use anyhow::{anyhow, bail};

use crate::config::{Kernel, Objective, StrategyName};
use crate::space::{OnlyValues, Partition};
use crate::text;

/// Settings of the search.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag
pub struct TuneArgs {
    /// Go on where an interrupted run ended
    #[arg(long)]
    pub resume: bool,
    /// Tune every shape that is checked, and name the smallest set of variants that is within 2 % of the fastest at
    /// each of them
    #[arg(long)]
    pub per_shape: bool,
    /// More elite.json files whose variants are tried first, before those of this project's elite.json
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Do not begin with variants of earlier elites
    #[arg(long, conflicts_with = "from")]
    pub cold: bool,
    /// Number of workers that measure at the same time, in place of the table's; by default one on every GPU of this
    /// machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Option<u32>,
    /// Measure every variant again, also those that earlier runs measured
    #[arg(long, conflicts_with = "resume")]
    pub fresh: bool,
    /// Run the search N times without earlier results, each with another seed, and compare the winners
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100), conflicts_with_all = ["resume", "per_shape", "from"])]
    pub repeat: Option<u64>,
    /// Largest number of variants to evaluate, in place of the table's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: Option<u64>,
    /// Largest number of seconds of the search, without the finals, in place of the table's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Strategy, in place of the table's
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<StrategyName>,
    /// Search only the variants of one part of the space, `2/4`; every variant is in one part. `merge` puts the results together
    #[arg(long, value_name = "I/N", conflicts_with = "per_shape")]
    pub partition: Option<Partition>,
    /// Search only some values of a toggle (repeatable)
    #[arg(long, value_name = "K=V,W")]
    pub toggle: Vec<OnlyValues>,
    /// Print the variants that the search would try and an estimate of its time; measure nothing
    #[arg(long, conflicts_with_all = ["repeat", "per_shape"])]
    pub dry_run: bool,
    /// Objectives to minimise, in place of the table's: one or two (`p50,registers`)
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    pub objective: Vec<String>,
}

impl TuneArgs {
    /// Replaces settings of the table by those of the command line.
    pub(super) fn override_search(&self, kernel: &mut Kernel) -> anyhow::Result<()> {
        let search = &mut kernel.search;
        search.evaluations = self.budget.or(search.evaluations);
        search.seconds = self.seconds.or(search.seconds);
        search.strategy = self.strategy.unwrap_or(search.strategy);
        search.partition = self.partition;
        if !self.toggle.is_empty() {
            let narrowed = kernel.space.narrowed(&self.toggle);
            kernel.space = narrowed.map_err(|error| anyhow!("--toggle of kernel `{}`: {error}", kernel.name))?;
        }
        let search = &kernel.search;
        if self.partition.is_some() && search.proposer.is_some() {
            bail!(
                "--partition: kernel `{}` has a proposer, whose sources belong to no part; tune it without",
                kernel.name
            );
        }
        if self.objective.is_empty() {
            return self.check_application(kernel);
        }
        if self.objective.len() > 2 {
            bail!("--objective: a search has one objective or two");
        }
        let mut objectives = Vec::new();
        for word in &self.objective {
            let Some((_, objective)) = Objective::WORDS.into_iter().find(|(name, _)| name == word) else {
                let names = Objective::WORDS.map(|(name, _)| name);
                bail!("--objective: `{word}` is no objective; name one of {}", text::list(&names));
            };
            if objectives.contains(&objective) {
                bail!("--objective: `{word}` is named twice");
            }
            if !objective.is_of(kernel.implementation.backend) {
                bail!("--objective: `{word}` is a resource of CUDA, and kernel `{}` is in C", kernel.name);
            }
            objectives.push(objective);
        }
        kernel.objectives = objectives;
        Ok(())
    }

    /// An error if the objective is a program of the user, and `--per-shape` or `--repeat` needs another objective.
    fn check_application(&self, kernel: &Kernel) -> anyhow::Result<()> {
        if !kernel.objectives.iter().any(|objective| matches!(objective, Objective::Application(_))) {
            return Ok(());
        }
        let flag = match self {
            TuneArgs { per_shape: true, .. } => "--per-shape",
            TuneArgs { repeat: Some(_), .. } => "--repeat",
            _ => return Ok(()),
        };
        bail!(
            "{flag}: the objective of kernel `{}` is a program, which has one number for all shapes and runs; name another with --objective",
            kernel.name
        );
    }
}
