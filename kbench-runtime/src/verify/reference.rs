//! Reference results: run once for each content, then kept in memory and on disk. Those of programs get there from the driver.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;
use serde::Serialize;

use crate::data::cache::{Bounded, room};
use crate::data::codec::{self, CHUNK};
use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::data::fingerprint;
use crate::device::Device;
use crate::inputs::pattern;
use crate::inputs::tensor::{GENERATION, Inputs};
use crate::memory::kernel::{FINITE, NAN, Poison, Rig, is_output};
use crate::memory::outputs::OutputCache;
use crate::memory::pool::Pool;
use crate::protocol::{Arg, DeviceInfo, Failure, Launch, Pattern, Reference, Role, Source, TensorSpec};
use crate::verify::compare::{count, element};

/// Bytes kept in memory at least.
const MEMORY: usize = 1 << 30;

/// Bytes kept on disk.
const FOLDER: u64 = 4 << 30;

/// A temporary file this old was left by a worker that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What takes no longer to compute than to read and check so many bytes a second is not written to disk.
const READ_A_SECOND: f64 = 500e6;

/// Results of so many bytes are written in any case.
const SMALL: usize = 1 << 20;

/// Results larger than this are not written to disk.
const LARGEST_FILE: usize = 256 << 20;

/// What the names of files that are still being written start with; tempfile's own default, which earlier versions used.
const TEMPORARY: &str = ".tmp";

/// What identities of references start with whose results are for one process alone. So do the keys of these results.
pub const PASSING: &str = "passing-";

const MAGIC: &[u8; 8] = b"kbref-2\n";

/// Which inputs a reference gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Asked {
    /// Their seed.
    pub seed: u64,
    /// Their pattern, `None` for random ones.
    pub pattern: Option<Pattern>,
    /// What it sees of them.
    pub view: View,
}

impl Asked {
    /// The random inputs of a seed.
    pub fn seed(seed: u64) -> Self {
        Self { seed, pattern: None, view: View::Given }
    }
}

/// What a reference sees of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum View {
    /// What the kernel gets.
    Given,
    /// In place of what is quantised, the values that it is quantised from, and scales of 1.
    Unquantized,
    /// Every floating-point input off by this relative error, up or down, and no subnormal ones.
    Perturbed(f64),
}

/// Whether a reference can be asked for [`View::Unquantized`]: it takes something quantised, and gets all of that as floating
/// point.
pub fn is_quantized(tensors: &[TensorSpec], launch: &Launch) -> bool {
    let mut quantized = tensors
        .iter()
        .enumerate()
        .filter(|(index, spec)| takes(launch, *index) && matches!(spec.source, Source::Quantize { .. }))
        .map(|(_, spec)| spec.dtype.is_float())
        .peekable();
    quantized.peek().is_some() && quantized.all(|is_float| is_float)
}

/// The reference's outputs by tensor index: element type and bytes.
pub type Outputs = BTreeMap<usize, (DType, Vec<u8>)>;

/// Results that are already known.
#[derive(Debug)]
pub struct References {
    memory: Bounded<Outputs>,
    folder: Option<PathBuf>,
    /// Results on their way to disk: nothing waits for them but the end.
    storing: Vec<JoinHandle<()>>,
}

impl Drop for References {
    fn drop(&mut self) {
        self.settle();
    }
}

impl References {
    /// With a folder to keep results in, created if it can be. What has not been used for longest is deleted from it now.
    pub fn new(folder: Option<PathBuf>) -> Self {
        if let Some(folder) = &folder {
            // A cache that cannot be tidied costs room, nothing else.
            let _ = tidy(folder, FOLDER, ABANDONED);
        }
        Self { memory: Bounded::new(room(MEMORY)), folder, storing: Vec::new() }
    }

    /// Waits until what can be on disk is there.
    pub fn settle(&mut self) {
        for storing in self.storing.drain(..) {
            let _ = storing.join();
        }
    }

    /// Whether there is a result under `key`.
    pub fn knows(&mut self, key: &str) -> bool {
        self.get(key, || Err(Failure::Reference { message: String::new() })).is_ok()
    }

    /// The result under `key`, from memory, from disk, or by running the reference.
    pub fn get(&mut self, key: &str, run: impl FnOnce() -> Result<Outputs, Failure>) -> Result<Arc<Outputs>, Failure> {
        if let Some(outputs) = self.memory.get(key) {
            return Ok(outputs);
        }
        let path = self.folder.as_ref().map(|folder| file_of(folder, key));
        let stored = path.as_ref().and_then(|path| {
            let outputs = decode(std::fs::read(path).ok()?, key)?;
            // The time of the last use, for `tidy`.
            let _ =
                std::fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
            Some(outputs)
        });
        let is_new = stored.is_none();
        let started = Instant::now();
        let outputs = Arc::new(stored.map_or_else(run, Ok)?);
        let size = size(&outputs);
        if is_new && is_worth_writing(size, started.elapsed()) {
            self.store(key, &outputs);
        }
        self.memory.insert(key.to_owned(), size, Arc::clone(&outputs));
        Ok(outputs)
    }

    /// Keeps a result of another process, on disk in any case.
    pub fn put(&mut self, key: &str, outputs: Outputs) {
        let outputs = Arc::new(outputs);
        self.store(key, &outputs);
        self.memory.insert(key.to_owned(), size(&outputs), outputs);
    }

    fn store(&mut self, key: &str, outputs: &Arc<Outputs>) {
        let Some(folder) = &self.folder else { return };
        let (path, key, outputs) = (file_of(folder, key), key.to_owned(), Arc::clone(outputs));
        // A cache that cannot be written costs time, nothing else.
        self.storing.retain(|storing| !storing.is_finished());
        self.storing.push(thread::spawn(move || drop(store(&path, &key, &outputs))));
    }
}

/// Whether to read a result of so many bytes is quicker than to compute it again.
fn is_worth_writing(bytes: usize, took: Duration) -> bool {
    bytes <= SMALL || took.as_secs_f64() >= bytes as f64 / READ_A_SECOND
}

fn file_of(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.ref"))
}

/// Names a result by everything that it depends on. A program knows itself what it runs on. The version of the fingerprint is to be
/// raised whenever the same reference could give other results, or none.
pub fn key(reference: &Reference, tensors: &[TensorSpec], asked: Asked, device: &DeviceInfo) -> String {
    // The kernel's own scratch may depend on its toggles; the reference's result does not.
    let tensors: Vec<Option<&TensorSpec>> = tensors
        .iter()
        .enumerate()
        .map(|(index, spec)| (spec.role != Role::Scratch || takes(&reference.launch, index)).then_some(spec))
        .collect();
    let device = (!reference.program).then_some((&device.name, &device.driver));
    let generation = (GENERATION, pattern::GENERATION);
    // Which bytes its machine code has is of no account beside what it does.
    let launch = Launch { blob: String::new(), ..reference.launch.clone() };
    let content = (generation, Reference { launch, ..reference.clone() }, tensors, asked, device);
    let key = fingerprint::of("reference result 3", &content);
    if reference.identity.starts_with(PASSING) { PASSING.to_owned() + &key } else { key }
}

fn takes(launch: &Launch, tensor: usize) -> bool {
    launch.args.iter().any(|arg| match arg {
        Arg::Tensor(other) | Arg::Symbol { tensor: other, .. } => *other == tensor,
        Arg::TensorMap(map) => map.tensor == tensor,
        Arg::Scalar { .. } => false,
    })
}

/// The tensors as a reference gets them: floating-point ones as its precision, everything else as it is.
pub fn wide_specs(reference: &Reference, tensors: &[TensorSpec]) -> Vec<TensorSpec> {
    let mut wide = tensors.to_vec();
    for spec in wide.iter_mut().filter(|spec| spec.dtype.is_float()) {
        spec.dtype = reference.precision;
    }
    wide
}

/// The inputs that a reference takes, as it gets them.
pub fn wide_inputs(reference: &Reference, tensors: &[TensorSpec], inputs: &Inputs, view: View) -> Inputs {
    let quantized_with = |scale: usize| {
        tensors.iter().any(|spec| matches!(spec.source, Source::Quantize { scale: other, .. } if other == scale))
    };
    let wide = |index: usize| {
        let spec = &tensors[index];
        let to = if spec.dtype.is_float() { reference.precision } else { spec.dtype };
        let converted = |index: usize| {
            let (from, input) = (tensors[index].dtype, inputs[index].as_ref()?);
            Some(if from == to { Arc::clone(input) } else { Arc::new(codec::convert(from, to, input).into()) })
        };
        match (view, &spec.source) {
            (View::Unquantized, Source::Quantize { from, .. }) => converted(*from),
            (View::Unquantized, Source::Scale) if quantized_with(index) => {
                Some(Arc::new(codec::encode(to, &vec![1.0; spec.elements()]).into()))
            }
            (View::Perturbed(by), _) if spec.dtype.is_float() => {
                let mut values = codec::decode(spec.dtype, inputs[index].as_ref()?);
                perturb(spec.dtype, &mut values, by);
                Some(Arc::new(codec::encode(to, &values).into()))
            }
            _ => converted(index),
        }
    };
    (0..tensors.len()).map(|index| takes(&reference.launch, index).then(|| wide(index)).flatten()).collect()
}

/// Changes every value by a relative error up or down, and flushes what is subnormal in a type whose subnormal numbers compilers
/// and GPUs flush when they are told to be fast.
fn perturb(dtype: DType, values: &mut [f64], by: f64) {
    let flushed = if matches!(dtype, DType::F32 | DType::F64 | DType::Bf16) { dtype.smallest_normal() } else { 0.0 };
    values.par_iter_mut().enumerate().for_each(|(index, value)| {
        // The middle bit of a product with the golden ratio: as good as random here.
        let up = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 1 == 0;
        *value = if value.abs() < flushed { 0.0 } else { *value * if up { 1.0 + by } else { 1.0 - by } };
    });
}

/// Where a reference finds memory.
pub(crate) struct Pools<'a, B> {
    /// For its own tensors.
    pub own: &'a mut Pool<B>,
    /// For copies of large inputs, which others may have made before; without one there are none.
    pub copies: Option<&'a mut Pool<B>>,
}

/// Runs a reference on the inputs as [`wide_inputs`] gives them.
///
/// A reference that writes out of bounds or leaves part of an output unwritten is refused: nothing could be judged by it.
pub(crate) fn run<D: Device>(
    device: &mut D,
    pools: Pools<'_, D::Buffer>,
    reference: &Reference,
    tensors: &[TensorSpec],
    inputs: Inputs,
    asked: Asked,
    code: &[u8],
) -> Result<Outputs, Failure> {
    run_inner(device, pools, reference, tensors, &Arc::new(inputs), asked, code).map_err(|failure| match failure {
        Failure::Reference { .. } => failure,
        other => Failure::Reference { message: other.to_string() },
    })
}

fn run_inner<D: Device>(
    device: &mut D,
    pools: Pools<'_, D::Buffer>,
    reference: &Reference,
    tensors: &[TensorSpec],
    wide_inputs: &Arc<Inputs>,
    asked: Asked,
    code: &[u8],
) -> Result<Outputs, Failure> {
    let refuse = |message: String| Failure::Reference { message };
    let wide = wide_specs(reference, tensors);
    for (index, spec) in tensors.iter().enumerate() {
        if is_output(spec.role) && !takes(&reference.launch, index) {
            return Err(refuse(format!("it does not take the output `{}`", spec.name)));
        }
    }
    device.be_reference(true);
    let rig = Rig::new(device, pools.own, &wide, wide_inputs, &reference.launch, code);
    device.be_reference(false);
    let mut rig = rig?;
    rig.begin(device, pools.copies, wide_inputs)?;
    device.run(&rig.bound)?;
    let mut fetched = OutputCache::default();
    let survey = rig.survey(device)?;
    let outputs = rig.outputs(device, &mut fetched, &survey)?;
    let mut out_of_bounds = Vec::new();
    rig.out_of_bounds(device, &survey, &mut out_of_bounds)?;
    if let Some(write) = out_of_bounds.first() {
        return Err(refuse(format!("it writes out of bounds: `{}` at byte {}", write.tensor, write.offset)));
    }
    let is_poison = |bytes: &[u8], poison: u8| bytes.iter().all(|byte| *byte == poison);
    let suspects = |(index, data): &(usize, Arc<Bytes>)| {
        let spec = &wide[*index];
        let size = spec.dtype.size();
        spec.role == Role::Out && count(spec.elements(), |at| is_poison(element(data, at, size), NAN)).0 > 0
    };
    if outputs.iter().any(suspects) {
        // Poison may be an honest result (-1 is, for an integer), but not with two different poisons.
        rig.poison(device, wide_inputs, Poison::FINITE)?;
        device.run(&rig.bound)?;
        let survey = rig.survey(device)?;
        for ((index, first), (_, second)) in outputs.iter().zip(rig.outputs(device, &mut fetched, &survey)?) {
            let spec = &wide[*index];
            let size = spec.dtype.size();
            let (unwritten, at) = count(spec.elements(), |at| {
                is_poison(element(first, at, size), NAN) && is_poison(element(&second, at, size), FINITE)
            });
            if let Some(at) = at.filter(|_| spec.role == Role::Out) {
                let name = &spec.name;
                return Err(refuse(format!("it leaves {unwritten} elements of `{name}` unwritten, first {at}")));
            }
        }
    }
    drop(fetched);
    rig.wipe(device, wide_inputs)?;
    // Two outputs with the same bytes may be one.
    let own = |data| Vec::from(Arc::unwrap_or_clone(data));
    let outputs = outputs.into_iter().map(|(index, data)| (index, (wide[index].dtype, own(data)))).collect();
    some_finite(tensors, &outputs, asked)?;
    Ok(outputs)
}

/// Refuses outputs by which nothing can be judged: without a finite number in them, every kernel's NaN would agree. In a pattern
/// that is for the inputs to answer.
pub fn some_finite(tensors: &[TensorSpec], outputs: &Outputs, asked: Asked) -> Result<(), Failure> {
    for (index, (dtype, data)) in outputs.iter().filter(|_| asked.pattern.is_none()) {
        if dtype.is_float() && !data.is_empty() && !any_finite(*dtype, data) {
            let message = format!("it gives no finite number in `{}`", tensors[*index].name);
            return Err(Failure::Reference { message });
        }
    }
    Ok(())
}

fn any_finite(dtype: DType, data: &[u8]) -> bool {
    let mut values = vec![0.0; CHUNK];
    data.chunks(CHUNK * dtype.size()).any(|data| {
        let values = &mut values[..data.len() / dtype.size()];
        codec::decode_into(dtype, data, values);
        values.iter().any(|value| value.is_finite())
    })
}

fn size(outputs: &Outputs) -> usize {
    outputs.values().map(|(_, data)| data.len()).sum()
}

/// Magic, key, number of tensors, each with index, type, length and data, and the hash of all that.
fn store(path: &Path, key: &str, outputs: &Outputs) -> std::io::Result<()> {
    if size(outputs) > LARGEST_FILE {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes)
    };
    write(MAGIC)?;
    write(&(key.len() as u64).to_le_bytes())?;
    write(key.as_bytes())?;
    write(&(outputs.len() as u64).to_le_bytes())?;
    for (index, (dtype, data)) in outputs {
        write(&(*index as u64).to_le_bytes())?;
        write(&[DType::ALL.iter().position(|other| other == dtype).unwrap_or(0) as u8])?;
        write(&(data.len() as u64).to_le_bytes())?;
        write(data)?;
    }
    let hash = hasher.finalize();
    file.write_all(hash.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Deletes the results used least recently until the folder holds at most `most` bytes of them, and temporary files, and results
/// for one process, that have not been used for `abandoned`. Nothing that has another name than this module gives.
fn tidy(folder: &Path, most: u64, abandoned: Duration) -> std::io::Result<()> {
    let mut results = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let (true, Ok(used)) = (metadata.is_file(), metadata.modified()) else { continue };
        if [TEMPORARY, PASSING].iter().any(|prefix| entry.file_name().to_string_lossy().starts_with(prefix)) {
            if used.elapsed().is_ok_and(|age| age > abandoned) {
                let _ = std::fs::remove_file(path);
            }
        } else if path.extension().is_some_and(|extension| extension == "ref") {
            results.push((used, metadata.len(), path));
        }
    }
    results.sort();
    let mut bytes: u64 = results.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, size, path) in results {
        if bytes <= most {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            bytes -= size;
        }
    }
    Ok(())
}

/// What a file holds under `key`; a whole file of another key is none either.
fn decode(mut file: Vec<u8>, key: &str) -> Option<Outputs> {
    let (content, hash) = file.split_last_chunk::<32>()?;
    if blake3::Hasher::new().update_rayon(content).finalize() != blake3::Hash::from_bytes(*hash) {
        return None;
    }
    let mut at = MAGIC.len();
    content.strip_prefix(MAGIC)?;
    let mut take = |bytes: usize| {
        let taken = at..at.checked_add(bytes)?;
        at = taken.end;
        content.get(taken.clone()).map(|_| taken)
    };
    let number = |range: Range<usize>| usize::try_from(u64::from_le_bytes(content[range].try_into().ok()?)).ok();
    let length = number(take(8)?)?;
    if content[take(length)?] != *key.as_bytes() {
        return None;
    }
    let tensors = number(take(8)?)?;
    let mut places = Vec::new();
    for _ in 0..tensors {
        let index = number(take(8)?)?;
        let dtype = *DType::ALL.get(usize::from(content[take(1)?.start]))?;
        let bytes = number(take(8)?)?;
        places.push((index, dtype, take(bytes)?));
    }
    if let [(index, dtype, place)] = &places[..] {
        // The file's own memory: to get fresh memory takes longer than to move what lies there.
        file.truncate(place.end);
        file.drain(..place.start);
        return Some([(*index, (*dtype, file))].into());
    }
    Some(places.into_iter().map(|(index, dtype, place)| (index, (dtype, file[place].to_vec()))).collect())
}

#[cfg(test)]
mod tests;
