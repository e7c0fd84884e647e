//! Settings: their definition in the server and their typed values.
//!
//! Nothing that names a file, a device or the network can be set by a session. Such settings are fixed at server
//! start when the library is preloaded. A library loaded later may not define settings of that kind, so there they
//! take the next stricter context a session cannot reach: the configuration file and a reload.
#![allow(unsafe_code)] // definitions with check hooks, and PostgreSQL's own variables

use kronos_engine::message::{Bound, Devices};
use kronos_models::device::Precision;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Which calls statistics are kept of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Track {
    /// None.
    #[name = c"none"]
    None,
    /// All.
    #[name = c"all"]
    All,
}

/// How precise models are on GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum GpuPrecision {
    /// As on the CPU.
    #[name = c"float32"]
    Float32,
    /// Half of the memory.
    #[name = c"bfloat16"]
    Bfloat16,
}

static MODEL_DIR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"$data/kronos"));
static DEVICES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"auto"));
static SERVICE: GucSetting<bool> = GucSetting::<bool>::new(true);
static MAX_GPU_MEMORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"80%"));
static GPU_PRECISION: GucSetting<GpuPrecision> = GucSetting::<GpuPrecision>::new(GpuPrecision::Float32);
static MAX_CPU_MEMORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"50%"));
static BATCH_WINDOW: GucSetting<i32> = GucSetting::<i32>::new(5);
static ENGINE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_QUEUE: GucSetting<i32> = GucSetting::<i32>::new(1024);
static MAX_SERIES_PER_CALL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_HORIZON: GucSetting<i32> = GucSetting::<i32>::new(2048);
static MAX_SAMPLES: GucSetting<i32> = GucSetting::<i32>::new(1000);
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static ALLOW_NETWORK: GucSetting<bool> = GucSetting::<bool>::new(false);
/// The alias that `kronos.default_model` names until somebody sets it.
const UNCONFIGURED_MODEL: &CStr = c"kronos-default";

static DEFAULT_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(UNCONFIGURED_MODEL));
static DEFAULT_CALENDAR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"24x7"));
static DEFAULT_SAMPLES: GucSetting<i32> = GucSetting::<i32>::new(32);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static LOG_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(-1);
static TRACK: GucSetting<Track> = GucSetting::<Track>::new(Track::All);

/// Whether the postmaster loaded the library; its children inherit the answer.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Defines every setting and reserves the prefix, so that a misspelt `kronos.something` is refused.
pub fn register() {
    PRELOADED.store(preloading(), Ordering::Relaxed);
    define_fixed();
    define_guards();
    define_session();
    // SAFETY: called from _PG_init with a NUL-terminated static name.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"kronos".as_ptr()) };
}

/// Whether the library came through shared_preload_libraries and is being loaded now.
fn preloading() -> bool {
    // SAFETY: a plain variable of the server, read on its only thread.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether the library came through shared_preload_libraries.
pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Settings of files, devices and the network.
fn define_fixed() {
    let at_start = || if preloading() { GucContext::Postmaster } else { GucContext::Sighup };
    string(
        c"kronos.model_dir",
        c"Sets the directory that models are read from.",
        c"A leading $data stands for the data directory of the server.",
        &MODEL_DIR,
        at_start(),
        Some(check_model_dir),
    );
    string(
        c"kronos.devices",
        c"Sets the devices that models run on.",
        c"Either auto, cpu, or a list of devices such as cuda:0,cuda:1.",
        &DEVICES,
        at_start(),
        Some(check_devices),
    );
    GucRegistry::define_bool_guc(
        c"kronos.service",
        c"Lets one engine process of the server own the models for all sessions.",
        c"When off, models run inside the calling backend, on the CPU only.",
        &SERVICE,
        at_start(),
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"kronos.allow_network",
        c"Allows the extension to download model weights.",
        c"This version downloads nothing by itself, whatever the setting.",
        &ALLOW_NETWORK,
        at_start(),
        GucFlags::default(),
    );
    string(
        c"kronos.max_gpu_memory",
        c"Sets the memory that models may take on one GPU.",
        c"Either a share of the device such as 80%, or an amount such as 12GB.",
        &MAX_GPU_MEMORY,
        GucContext::Sighup,
        Some(check_memory),
    );
    GucRegistry::define_enum_guc(
        c"kronos.gpu_precision",
        c"Selects the precision of models on GPUs.",
        c"A model that is loaded keeps the precision it was loaded with.",
        &GPU_PRECISION,
        GucContext::Sighup,
        GucFlags::default(),
    );
    string(
        c"kronos.max_cpu_memory",
        c"Sets the main memory that an engine may take for models and their working space.",
        c"Either a share of the machine's memory such as 50%, or an amount such as 12GB.",
        &MAX_CPU_MEMORY,
        GucContext::Sighup,
        Some(check_memory),
    );
}

/// Limits and statistics: for superusers, or for the configuration file.
fn define_guards() {
    int(
        c"kronos.batch_window",
        c"Sets how long the service waits for requests of other sessions to run in one batch.",
        &BATCH_WINDOW,
        (0, 10_000),
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"kronos.engine_timeout",
        c"Sets how long the engine may be silent before its supervisor replaces it.",
        &ENGINE_TIMEOUT,
        (100, 3_600_000),
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"kronos.max_queue",
        c"Sets how many requests may wait for the service.",
        &MAX_QUEUE,
        (1, 1_000_000),
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"kronos.max_series_per_call",
        c"Sets how many series one call may forecast.",
        &MAX_SERIES_PER_CALL,
        (1, 10_000_000),
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"kronos.max_horizon",
        c"Sets how many bars ahead one call may forecast.",
        &MAX_HORIZON,
        (1, 1_000_000),
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"kronos.max_samples",
        c"Sets how many sample paths one call may draw per series.",
        &MAX_SAMPLES,
        (1, 1_000_000),
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"kronos.threads",
        c"Sets the CPU threads that run models; zero means half of the cores.",
        &THREADS,
        (0, 1024),
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"kronos.log_min_duration",
        c"Sets the duration from which a forecast call is logged; -1 logs none, 0 logs all.",
        &LOG_MIN_DURATION,
        (-1, i32::MAX),
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"kronos.track",
        c"Selects the calls that the views kronos.stat_* count.",
        c"Statistics are kept by the service.",
        &TRACK,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Defaults a session may choose.
fn define_session() {
    string(
        c"kronos.default_model",
        c"Sets the model used when a call names none.",
        c"A version, a model name with one version, or an alias.",
        &DEFAULT_MODEL,
        GucContext::Userset,
        None,
    );
    string(
        c"kronos.default_calendar",
        c"Sets the trading calendar used when a call names none.",
        c"One of kronos.calendars.",
        &DEFAULT_CALENDAR,
        GucContext::Userset,
        None,
    );
    int(
        c"kronos.default_samples",
        c"Sets the sample paths drawn per series when a call does not say.",
        &DEFAULT_SAMPLES,
        (1, 1_000_000),
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"kronos.request_timeout",
        c"Sets the longest time a forecast may take; zero leaves it to statement_timeout.",
        &REQUEST_TIMEOUT,
        (0, i32::MAX),
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
}

fn int(
    name: &'static CStr,
    short: &'static CStr,
    setting: &'static GucSetting<i32>,
    (min, max): (i32, i32),
    context: GucContext,
    flags: GucFlags,
) {
    GucRegistry::define_int_guc(name, short, c"", setting, min, max, context, flags);
}

fn string(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    context: GucContext,
    check: pg_sys::GucStringCheckHook,
) {
    // SAFETY: the hooks below are guarded against panics and allocate only through the server.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            long,
            setting,
            context,
            GucFlags::default(),
            check,
            None,
            None,
        );
    }
}

/// Text of a string setting's new value; `None` when it is not valid UTF-8.
///
/// # Safety
/// `value` must be what the server passes to a check hook.
unsafe fn proposed<'a>(value: *mut *mut c_char) -> Option<&'a str> {
    // SAFETY: the server passes a valid pointer to a NUL-terminated string or to NULL.
    unsafe {
        let text = *value;
        if text.is_null() { None } else { CStr::from_ptr(text).to_str().ok() }
    }
}

/// Accepts, or refuses with a DETAIL.
fn verdict(reason: Option<&CStr>) -> bool {
    let Some(reason) = reason else { return true };
    // SAFETY: what the macro GUC_check_errdetail does; the server copies the string into its report.
    unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(reason.as_ptr()) };
    false
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_model_dir(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called by the server as a check hook.
    let usable = unsafe { proposed(value) }
        .is_some_and(|dir| dir == "$data" || dir.starts_with("$data/") || dir.starts_with('/'));
    verdict((!usable).then_some(c"The directory must be an absolute path, or start with $data."))
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_devices(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called by the server as a check hook.
    let usable = unsafe { proposed(value) }.is_some_and(|devices| parse_devices(devices).is_some());
    verdict((!usable).then_some(c"Valid values are auto, cpu, or a list such as cuda:0,cuda:1."))
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_memory(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: called by the server as a check hook.
    let usable = unsafe { proposed(value) }.is_some_and(|memory| parse_memory(memory).is_some());
    verdict((!usable).then_some(c"Give a share from 1% to 100%, or an amount with a unit such as 512MB."))
}

fn parse_devices(text: &str) -> Option<Devices> {
    match text.trim() {
        "auto" => Some(Devices::Auto),
        "cpu" => Some(Devices::Cpu),
        list => list
            .split(',')
            .map(|device| device.trim().strip_prefix("cuda:")?.parse().ok())
            .collect::<Option<Vec<usize>>>()
            .map(Devices::Gpus),
    }
}

fn parse_memory(text: &str) -> Option<Bound> {
    let text = text.trim();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().ok()?;
        return (1.0..=100.0).contains(&percent).then_some(Bound::Share(percent / 100.0));
    }
    // A bare number would be read as bytes, which nobody means.
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    let text = CString::new(text).ok()?;
    let mut bytes = 0.0;
    // SAFETY: a pure parser of the server; a NULL hint is allowed.
    let parsed = unsafe {
        pg_sys::parse_real(text.as_ptr(), &mut bytes, pg_sys::GUC_UNIT_BYTE as i32, std::ptr::null_mut())
    };
    (parsed && (1.0..9.0e18).contains(&bytes)).then_some(Bound::Bytes(bytes as u64))
}

fn text(setting: &'static GucSetting<Option<CString>>) -> String {
    setting.get().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A non-negative setting as a count.
fn count(setting: &'static GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(0)
}

/// First component of paths that lie in [`share_dir`] instead of `kronos.model_dir`.
pub const SHARE: &str = "$share";

/// Where the models that come with the extension are installed: `kronos/` in the server's share directory.
pub fn share_dir() -> PathBuf {
    let mut path = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: the server sets its own path before any library can run, and never changes it; the function writes at most
    // MAXPGPATH bytes and ends them with a NUL.
    let share = unsafe {
        pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast(), path.as_mut_ptr());
        CStr::from_ptr(path.as_ptr()).to_string_lossy().into_owned()
    };
    PathBuf::from(share).join("kronos")
}

/// Where a file of the catalogue lies.
pub fn model_path(path: &Path) -> PathBuf {
    match path.strip_prefix(SHARE) {
        Ok(below) => share_dir().join(below),
        Err(_) => model_dir().join(path),
    }
}

/// `kronos.model_dir` with `$data` expanded.
pub fn model_dir() -> PathBuf {
    let configured = text(&MODEL_DIR);
    let Some(below) = configured.strip_prefix("$data") else { return PathBuf::from(configured) };
    // SAFETY: the server sets DataDir before any library can run, and never changes it.
    let data = unsafe {
        if pg_sys::DataDir.is_null() {
            String::new()
        } else {
            CStr::from_ptr(pg_sys::DataDir).to_string_lossy().into_owned()
        }
    };
    PathBuf::from(data).join(below.trim_start_matches('/'))
}

/// `kronos.devices`.
pub fn devices() -> Devices {
    parse_devices(&text(&DEVICES)).unwrap_or(Devices::Auto)
}

/// `kronos.service`.
pub fn service() -> bool {
    SERVICE.get()
}

/// `kronos.max_cpu_memory` in bytes on this machine.
pub fn max_cpu_memory() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let total = u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page).unwrap_or(0));
    parse_memory(&text(&MAX_CPU_MEMORY)).unwrap_or(Bound::Share(0.5)).of(total)
}

/// `kronos.gpu_precision`.
pub fn gpu_precision() -> Precision {
    match GPU_PRECISION.get() {
        GpuPrecision::Float32 => Precision::F32,
        GpuPrecision::Bfloat16 => Precision::Bf16,
    }
}

/// `kronos.max_gpu_memory`.
pub fn max_gpu_memory() -> Bound {
    parse_memory(&text(&MAX_GPU_MEMORY)).unwrap_or(Bound::Share(0.8))
}

/// `kronos.batch_window`.
pub fn batch_window() -> Duration {
    Duration::from_millis(count(&BATCH_WINDOW) as u64)
}

/// `kronos.max_queue`.
pub fn max_queue() -> usize {
    count(&MAX_QUEUE)
}

/// `kronos.engine_timeout`.
pub fn engine_timeout() -> Duration {
    Duration::from_millis(count(&ENGINE_TIMEOUT) as u64)
}

/// Whether `kronos.track` counts anything.
pub fn track() -> bool {
    TRACK.get() != Track::None
}

/// `kronos.max_series_per_call`.
pub fn max_series_per_call() -> usize {
    count(&MAX_SERIES_PER_CALL)
}

/// `kronos.max_horizon`.
pub fn max_horizon() -> usize {
    count(&MAX_HORIZON)
}

/// `kronos.max_samples`.
pub fn max_samples() -> usize {
    count(&MAX_SAMPLES)
}

/// `kronos.threads`, with zero resolved to half of the cores.
pub fn threads() -> usize {
    match count(&THREADS) {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        threads => threads,
    }
}

/// `kronos.default_model`.
pub fn default_model() -> String {
    text(&DEFAULT_MODEL)
}

/// Whether `kronos.default_model` is what it is where nobody has set it.
pub fn default_model_is_unconfigured() -> bool {
    default_model().as_bytes() == UNCONFIGURED_MODEL.to_bytes()
}

/// `kronos.default_calendar`.
pub fn default_calendar() -> String {
    text(&DEFAULT_CALENDAR)
}

/// `kronos.default_samples`.
pub fn default_samples() -> usize {
    count(&DEFAULT_SAMPLES)
}

/// `kronos.request_timeout`, `None` when statement_timeout alone rules.
pub fn request_timeout() -> Option<Duration> {
    match count(&REQUEST_TIMEOUT) {
        0 => None,
        milliseconds => Some(Duration::from_millis(milliseconds as u64)),
    }
}

/// `kronos.log_min_duration`, `None` when nothing is logged.
pub fn log_min_duration() -> Option<Duration> {
    u64::try_from(LOG_MIN_DURATION.get()).ok().map(Duration::from_millis)
}
