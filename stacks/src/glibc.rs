//! What a program asks of the C library. Lambda's `provided.al2023` has glibc 2.34, and a program that wants a newer
//! symbol ends there before its first line: so it is read before it is uploaded.
//!
//! Source: <https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html>, "glibc, gcc and binutils".

use std::fmt;

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, SHT_DYNSYM};
use object::read::elf::{FileHeader, SectionTable};

/// A version of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Version(pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What Lambda has.
pub const LAMBDA: Version = Version(2, 34);

/// A program as the loader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// As Lambda calls it: `arm64`, `x86_64`; or the number of another machine.
    pub machine: String,
    /// The version of the C library that it needs at least; none if it brings its own.
    pub needs: Option<Version>,
    /// The symbols of that version, in the order of the file. Empty if the version is asked for without a symbol.
    pub symbols: Vec<String>,
}

/// Why a program cannot run on Lambda.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it is no 64-bit ELF program: {0}")]
    Unreadable(String),
    #[error("it is for {found}, the function for {wanted}")]
    Machine { found: String, wanted: String },
    #[error(
        "it needs glibc {needs}{}, and Lambda has {LAMBDA}",
        .symbols.first().map(|symbol| format!(" for `{symbol}`")).unwrap_or_default()
    )]
    TooNew { needs: Version, symbols: Vec<String> },
}

impl Program {
    /// Reads the version needs of an ELF file.
    pub fn read(binary: &[u8]) -> Result<Self, Unfit> {
        read(binary).map_err(|error| Unfit::Unreadable(error.to_string()))
    }

    /// Whether it runs on Lambda with this architecture.
    pub fn check(&self, architecture: &str) -> Result<(), Unfit> {
        if self.machine != architecture {
            return Err(Unfit::Machine { found: self.machine.clone(), wanted: architecture.to_owned() });
        }
        match self.needs {
            Some(needs) if needs > LAMBDA => Err(Unfit::TooNew { needs, symbols: self.symbols.clone() }),
            _ => Ok(()),
        }
    }
}

fn read(binary: &[u8]) -> object::Result<Program> {
    let header = FileHeader64::<Endianness>::parse(binary)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, binary)?;
    let machine = match header.e_machine(endian) {
        EM_X86_64 => "x86_64".to_owned(),
        EM_AARCH64 => "arm64".to_owned(),
        other => format!("ELF machine {other}"),
    };
    let needs = newest(&sections, endian, binary)?;
    let symbols = match needs {
        Some(needs) => symbols_of(&sections, endian, binary, needs)?,
        None => Vec::new(),
    };
    Ok(Program { machine, needs, symbols })
}

type Sections<'data> = SectionTable<'data, FileHeader64<Endianness>>;

/// The newest version that is asked of the C library, whether by a symbol or by the loader's own features.
fn newest(sections: &Sections<'_>, endian: Endianness, binary: &[u8]) -> object::Result<Option<Version>> {
    let Some((mut files, strings)) = sections.gnu_verneed(endian, binary)? else { return Ok(None) };
    let strings = sections.strings(endian, binary, strings)?;
    let mut newest = None;
    while let Some((_, mut versions)) = files.next()? {
        while let Some(version) = versions.next()? {
            let name = version.name(endian, strings)?;
            newest = newest.max(parse(name));
        }
    }
    Ok(newest)
}

fn symbols_of(
    sections: &Sections<'_>,
    endian: Endianness,
    binary: &[u8],
    needs: Version,
) -> object::Result<Vec<String>> {
    let Some(versions) = sections.versions(endian, binary)? else { return Ok(Vec::new()) };
    let symbols = sections.symbols(endian, binary, SHT_DYNSYM)?;
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let version = versions.version(versions.version_index(endian, index).into())?;
        if version.and_then(|version| parse(version.name())) == Some(needs) {
            found.push(String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned());
        }
    }
    Ok(found)
}

/// `GLIBC_2.34` is 2.34. `GLIBC_ABI_DT_RELR` is no symbol's version: a loader from 2.36 on knows compressed relocations.
/// Source: <https://sourceware.org/glibc/wiki/Release/2.36>
fn parse(name: &[u8]) -> Option<Version> {
    if name == b"GLIBC_ABI_DT_RELR" {
        return Some(Version(2, 36));
    }
    let (major, minor) = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some(Version(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_what_is_none_does_not_count() {
        assert_eq!(parse(b"GLIBC_2.9"), Some(Version(2, 9)));
        assert_eq!(parse(b"GLIBC_2.2.5"), Some(Version(2, 2)));
        assert_eq!(parse(b"GLIBC_ABI_DT_RELR"), Some(Version(2, 36)));
        for other in [&b"GLIBC_PRIVATE"[..], b"GCC_3.3", b"GLIBCXX_3.4", b"\xff"] {
            assert_eq!(parse(other), None);
        }
        assert!(Version(2, 9) < Version(2, 34) && Version(2, 34) < Version(3, 0));
    }

    /// This very test is a program of this machine.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_real_program_is_read() {
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = Program::read(&binary).unwrap();
        let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        assert_eq!(program.machine, here);
        if cfg!(target_env = "gnu") {
            assert!(program.needs.unwrap() >= Version(2, 17), "{program:?}");
            assert!(!program.symbols.is_empty(), "{program:?}");
        }
        let wrong = program.check("riscv").unwrap_err();
        assert!(wrong.to_string().contains("it is for"), "{wrong}");
    }

    #[test]
    fn a_program_that_is_too_new_is_refused_by_the_name_of_its_symbol() {
        let program = |minor| Program {
            machine: "arm64".to_owned(),
            needs: Some(Version(2, minor)),
            symbols: vec!["arc4random".to_owned()],
        };
        assert_eq!(program(34).check("arm64"), Ok(()));
        let refused = program(36).check("arm64").unwrap_err().to_string();
        assert_eq!(refused, "it needs glibc 2.36 for `arc4random`, and Lambda has 2.34");
    }

    #[test]
    fn what_is_no_program_is_refused_without_a_panic() {
        assert!(Program::read(b"#!/bin/sh").is_err());
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [0, 4, 63, 64, 200, binary.len() / 2] {
            assert!(Program::read(&binary[..length]).is_err(), "{length}");
        }
    }
}
