//! Keeps an idle server small: glibc's allocator is told to give freed memory back.
//!
//! A password hash takes 19 MiB for a moment; after freeing it, glibc by default keeps twice as much for later. Its
//! thresholds can only be set from the environment at the start, so the process starts itself again, once, as the same
//! process. Elsewhere than on Linux with glibc nothing happens.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn be_frugal() {
    use std::os::unix::process::CommandExt;

    const SETTINGS: [(&str, &str); 3] =
        [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "262144"), ("MALLOC_ARENA_MAX", "2")];
    // Whoever sets one of them knows better.
    if SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(own) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(own);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only if it failed: then the server is merely larger.
    let error = again.args(arguments).envs(SETTINGS).exec();
    eprintln!("the memory settings cannot be made: {error}");
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn be_frugal() {}
