/// The architectures of the exported code.
pub const ARCHS: &[&str] = &[ARCH_LIST];

/// Properties of a device, queried once.
struct Device {
    name: String,
    /// `9.0`.
    arch: String,
    capability: (i32, i32),
    sm_count: i64,
}

/// A module and its functions, in the order in which they are launched.
struct Functions {
    #[allow(dead_code)]
    module: Arc<CudaModule>,
    all: Vec<CudaFunction>,
}

/// A kernel in a context: the functions of each variant are loaded when it is first launched.
struct Loaded<const V: usize> {
    /// Keeps the context alive, so that no other context gets its address.
    context: Arc<CudaContext>,
    device: Device,
    variants: [OnceLock<Functions>; V],
}

/// A kernel in each context that it was launched in.
struct Contexts<const V: usize>(RwLock<Vec<Arc<Loaded<V>>>>);

impl<const V: usize> Contexts<V> {
    const fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    /// The kernel in a context.
    fn get(&self, context: &Arc<CudaContext>) -> Result<Arc<Loaded<V>>, Error> {
        let find = |all: &[Arc<Loaded<V>>]| {
            all.iter().find(|loaded| loaded.context.cu_ctx() == context.cu_ctx()).cloned()
        };
        if let Some(loaded) = find(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(loaded);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = find(&all) {
            return Ok(loaded);
        }
        let capability = context.compute_capability()?;
        let sm_count = context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let device = Device {
            name: context.name()?,
            arch: format!("{}.{}", capability.0, capability.1),
            capability,
            sm_count: sm_count.into(),
        };
        let variants = std::array::from_fn(|_| OnceLock::new());
        let loaded = Arc::new(Loaded { context: context.clone(), device, variants });
        all.push(loaded.clone());
        Ok(loaded)
    }
}

impl<const V: usize> Loaded<V> {
    /// The functions of a variant, from the code that suits the device.
    fn functions(&self, variant: usize, codes: &[Code]) -> Result<&Functions, Error> {
        let slot = &self.variants[variant];
        if let Some(functions) = slot.get() {
            return Ok(functions);
        }
        let code = code_for(codes, &self.device)?;
        let module = self.context.load_module(code.image())?;
        let most = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most = self.context.attribute(most)?;
        let mut all = Vec::new();
        for symbol in code.symbols {
            let function = module.load_function(symbol)?;
            // All that the device allows beside the function's own, so that no launch has to ask for it.
            let own = function.get_attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
            let dynamic = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(dynamic, most - own)?;
            all.push(function);
        }
        // Another thread may have been faster; then its module is used.
        Ok(slot.get_or_init(|| Functions { module, all }))
    }
}

/// Machine code for one architecture, or PTX for it and all later ones.
struct Code {
    arch: (i32, i32),
    kind: Kind,
    /// The functions of the launches, in order.
    symbols: &'static [&'static str],
    bytes: &'static [u8],
}

/// The devices that run a piece of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// PTX, for the architecture and all later ones.
    Ptx,
    /// Machine code for the architecture and later ones of its generation.
    Generation,
    /// Machine code for this architecture only, with all its instructions.
    Exact,
}

impl Code {
    fn image(&self) -> Ptx {
        match self.kind {
            Kind::Ptx => Ptx::from_src(String::from_utf8_lossy(self.bytes)),
            Kind::Generation | Kind::Exact => Ptx::from_binary(self.bytes.to_vec()),
        }
    }

    fn runs_on(&self, device: (i32, i32)) -> bool {
        match self.kind {
            Kind::Ptx => self.arch <= device,
            Kind::Generation => self.arch.0 == device.0 && self.arch.1 <= device.1,
            Kind::Exact => self.arch == device,
        }
    }
}

/// The code for a device: machine code before PTX, and the latest architecture before earlier ones.
fn code_for<'c>(codes: &'c [Code], device: &Device) -> Result<&'c Code, Error> {
    let runs = codes.iter().filter(|code| code.runs_on(device.capability));
    let best = runs.max_by_key(|code| (code.kind != Kind::Ptx, code.arch, code.kind));
    best.ok_or_else(|| Error::NoCode { device: device.name.clone(), arch: device.arch.clone(), archs: ARCHS })
}

