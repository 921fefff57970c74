//! Needs of packages' tables.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Examination, Piece};
use crate::config::{Backend, BaselineKind, Kernel, Level, ReferenceKind};

/// A piece that a kernel's table needs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Need {
    /// The package.
    pub package: String,
    /// The kernel.
    pub kernel: String,
    /// The piece.
    pub piece: Piece,
    /// Keys of the table that need the piece.
    pub by: String,
    /// Whether the machine has the piece.
    pub is_met: bool,
}

/// The pieces that the gates at level `deny` of a kernel need.
pub fn needs(package: &str, kernel: &Kernel, found: &Examination) -> Vec<Need> {
    let is_cuda = kernel.implementation.backend == Backend::Cuda;
    let gates = &kernel.gates;
    let mut needs: Vec<(Piece, String)> = Vec::new();
    let is_c = |backend: Backend| backend == Backend::C;
    if is_cuda {
        needs.push((Piece::Nvcc, "`backend = \"cuda\"`".to_owned()));
        if kernel.runner().is_empty() {
            needs.push((Piece::Gpu, "`backend = \"cuda\"`".to_owned()));
        }
    }
    let reference_in_c = matches!(&kernel.reference.kind, ReferenceKind::Function(function) if is_c(function.backend));
    let baseline_in_c =
        |kind: &BaselineKind| matches!(kind, BaselineKind::Implementation(function) if is_c(function.backend));
    if is_c(kernel.implementation.backend)
        || reference_in_c
        || kernel.baselines.iter().any(|baseline| baseline_in_c(&baseline.kind))
    {
        needs.push((Piece::Cc, "sources in C".to_owned()));
    }
    if gates.sanitize.level == Level::Deny && is_cuda {
        needs.push((Piece::ComputeSanitizer, "`gates.sanitize`".to_owned()));
    }
    // Without ncu the roofline may judge; conditions on metrics alone cannot be judged then.
    if gates.counters.level == Level::Deny {
        let piece = if is_cuda { Piece::Ncu } else { Piece::PerfEvent };
        needs.push((piece, "`gates.counters`".to_owned()));
    }
    let need = |(piece, by)| {
        let (package, kernel) = (package.to_owned(), kernel.name.clone());
        Need { package, kernel, piece, by, is_met: found.has(piece) }
    };
    needs.into_iter().map(need).collect()
}
