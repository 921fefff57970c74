/// The name of this processor, as elite.json has it.
fn processor() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
    })
}

