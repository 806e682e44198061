//! How wasmtime is set up, the same for compiling and running, and the key that names code compiled so.

use crate::sys::{self, Execution};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel, PoolingAllocationConfig, Strategy};
use windlass_wire::plugin::Limits;

/// Counted up when the configuration below changes in a way that compiled code shows.
const GENERATION: u32 = 1;

/// Bytes of stack that a guest may use. Threads that run guests have twice as much.
pub(crate) const WASM_STACK: usize = 1 << 20;

/// Linear memories, tables and core instances that one component may have.
pub(crate) const MEMORIES: u32 = 8;
/// See [`MEMORIES`].
pub(crate) const TABLES: u32 = 16;
/// See [`MEMORIES`].
pub(crate) const INSTANCES: u32 = 32;

/// Names the engine: compiled code is as good as its key, and belongs into a cache under `sha256 of the component` + this.
///
/// It is made of wasmtime's exact version, our own generation, the processor's architecture and what of its features the compiler
/// uses. `Engine::precompile_compatibility_hash` would need an engine, which installs signal handlers; the daemon must have none.
/// The same string is written into the code's header and compared when it is loaded, so a stale or foreign file is refused there.
pub fn engine_key() -> String {
    format!("wasmtime-{}-{}-{:x}-{GENERATION}", wasmtime_environ::VERSION, std::env::consts::ARCH, processor())
}

macro_rules! features {
    ($detected:ident: $($name:tt),*) => {
        [$(std::arch::$detected!($name)),*].into_iter().fold(0, |bits, has| bits << 1 | u64::from(has))
    };
}

#[cfg(target_arch = "x86_64")]
fn processor() -> u64 {
    features!(is_x86_feature_detected: "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt",
        "cmpxchg16b", "avx512bitalg", "avx512dq", "avx512f", "avx512vl", "avx512vbmi")
}

#[cfg(target_arch = "aarch64")]
fn processor() -> u64 {
    features!(is_aarch64_feature_detected: "lse", "paca", "fp16", "bti")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor() -> u64 {
    0
}

/// The engine that compiles. What it makes is never executable in its own process.
pub(crate) fn for_compiling() -> wasmtime::Result<Engine> {
    let mut config = shared(Execution::Never)?;
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed).parallel_compilation(true);
    Engine::new(&config)
}

/// The engine that runs, with room for as many calls at once as `limits` allow.
pub(crate) fn for_running(limits: &Limits) -> wasmtime::Result<Engine> {
    let mut config = shared(Execution::Allowed)?;
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    Engine::new(&config)
}

fn shared(execution: Execution) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        // A fixed layout: the code is compiled for it, and no memory ever moves.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .memory_init_cow(true)
        .guard_before_linear_memory(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .cranelift_nan_canonicalization(true)
        .with_custom_code_memory(Some(sys::code_memory(execution)))
        .module_version(ModuleVersionStrategy::Custom(engine_key()))?;
    Ok(config)
}

/// Slots are reserved addresses; only what a call touches is memory, and it is given back after the call.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let calls = limits.concurrency.clamp(1, 64) + 1;
    let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX).min(4 << 30);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls * INSTANCES)
        .max_core_instances_per_component(INSTANCES)
        .total_memories(calls * 2)
        .max_memories_per_component(MEMORIES)
        .max_memories_per_module(MEMORIES)
        .total_tables(calls * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(limits.table_elements as usize)
        .max_memory_size(memory)
        .max_unused_warm_slots(calls)
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .decommit_batch_size(1);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_a_file_name_and_the_same_each_time() {
        let key = engine_key();
        assert_eq!(key, engine_key());
        assert!(key.len() < 200 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{key}");
    }

    #[test]
    fn both_engines_agree_on_what_compiled_code_is() {
        let hash = |engine: &Engine| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let running = for_running(&Limits::default()).unwrap();
        assert_eq!(hash(&for_compiling().unwrap()), hash(&running));
    }
}
