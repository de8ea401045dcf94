//! Reads from an ELF file what decides whether it runs here: the machine and the newest version of the C library it
//! asks for. For hints only: what it cannot read it says nothing about.

use std::fs;
use std::path::Path;

/// Version of the C library.
pub(super) type Glibc = (u32, u32);

/// The machine a program is for, in the words of `std::env::consts::ARCH`.
pub(super) fn machine(path: &Path) -> Option<&'static str> {
    let bytes = fs::read(path).ok()?;
    if !bytes.starts_with(b"\x7fELF") {
        return None;
    }
    match u16::from_le_bytes([*bytes.get(18)?, *bytes.get(19)?]) {
        3 => Some("x86"),
        40 => Some("arm"),
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        _ => Some("another machine"),
    }
}

/// The newest `GLIBC_x.y` a program names among its needed versions.
pub(super) fn newest_glibc(path: &Path) -> Option<Glibc> {
    let bytes = fs::read(path).ok()?;
    bytes.starts_with(b"\x7fELF").then(|| newest_in(&bytes)).flatten()
}

/// The version of this machine's C library, from the file that every program here loads.
pub(super) fn own_glibc() -> Option<Glibc> {
    let library = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"]
        .iter()
        .map(|directory| Path::new(directory).join("libc.so.6"))
        .find(|path| path.exists())?;
    newest_in(&fs::read(library).ok()?)
}

fn newest_in(bytes: &[u8]) -> Option<Glibc> {
    const NAME: &[u8] = b"GLIBC_";
    // Version names are whole strings of the string table: a NUL before and after.
    bytes
        .windows(NAME.len() + 1)
        .enumerate()
        .filter(|(_, window)| window[0] == 0 && &window[1..] == NAME)
        .filter_map(|(at, _)| {
            let rest = bytes.get(at + NAME.len() + 1..)?;
            let end = rest.iter().take(12).position(|&byte| byte == 0)?;
            let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
            Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::newest_in;

    #[test]
    fn the_newest_version_counts_as_a_number() {
        let bytes = b"\x7fELF\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0notGLIBC_3.0\0";
        assert_eq!(newest_in(bytes), Some((2, 34)));
        assert_eq!(newest_in(b"\x7fELF\0none\0"), None);
    }
}
