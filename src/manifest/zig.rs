//! Triples, as zig, Rust, GNU's configure scripts, meson and CMake write them.
//!
//! A target with `toolchain = "zig"` says its triple as Rust does, with the version of glibc behind it where one is
//! wanted (`aarch64-unknown-linux-gnu.2.28`), or as zig does (`aarch64-linux-musl`). Only what Rust, zig and the C
//! build systems agree on is known: others are an error where the manifest is read, not in the middle of a build.

/// A platform that zig compiles for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZigTarget {
    arch: &'static Arch,
    /// As it was written: Rust has more names for processors than zig.
    rust_arch: String,
    os: Os,
    /// `gnu`, `musleabihf`; empty for Apple's and the BSDs.
    abi: String,
    /// Such as `2.28`.
    glibc: Option<String>,
}

#[derive(PartialEq, Eq, Debug)]
struct Arch {
    /// zig's name.
    zig: &'static str,
    /// Rust's names, each with the processor that Rust means by it where zig would take another.
    rust: &'static [(&'static str, Option<&'static str>)],
    /// What configure scripts and `uname -m` call it.
    gnu: &'static str,
    /// meson's `cpu_family`.
    family: &'static str,
    is_little: bool,
    abis: &'static [&'static str],
}

const USUAL: &[&str] = &["gnu", "musl"];

static ARCHES: [Arch; 8] = [
    Arch {
        zig: "x86_64",
        rust: &[("x86_64", None)],
        gnu: "x86_64",
        family: "x86_64",
        is_little: true,
        abis: &["gnu", "musl", "gnux32"],
    },
    Arch {
        zig: "x86",
        rust: &[("i686", Some("pentium4")), ("i586", Some("pentium")), ("x86", None)],
        gnu: "i686",
        family: "x86",
        is_little: true,
        abis: USUAL,
    },
    Arch {
        zig: "aarch64",
        rust: &[("aarch64", None), ("arm64", None)],
        gnu: "aarch64",
        family: "aarch64",
        is_little: true,
        abis: USUAL,
    },
    Arch {
        zig: "arm",
        rust: &[
            ("armv7", Some("generic+v7a+vfp3_d32+thumb2-neon")),
            ("arm", Some("generic+v6+strict_align+vfp2_d32")),
            ("armv5te", Some("generic+v5te+soft_float+strict_align")),
        ],
        gnu: "arm",
        family: "arm",
        is_little: true,
        abis: &["gnueabi", "gnueabihf", "musleabi", "musleabihf"],
    },
    Arch {
        zig: "riscv64",
        rust: &[("riscv64gc", None), ("riscv64", None)],
        gnu: "riscv64",
        family: "riscv64",
        is_little: true,
        abis: USUAL,
    },
    Arch {
        zig: "powerpc64le",
        rust: &[("powerpc64le", None)],
        gnu: "powerpc64le",
        family: "ppc64",
        is_little: true,
        abis: USUAL,
    },
    Arch { zig: "s390x", rust: &[("s390x", None)], gnu: "s390x", family: "s390x", is_little: false, abis: USUAL },
    Arch {
        zig: "loongarch64",
        rust: &[("loongarch64", None)],
        gnu: "loongarch64",
        family: "loongarch64",
        is_little: true,
        abis: USUAL,
    },
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Os {
    Linux,
    Windows,
    Darwin,
    FreeBsd,
    NetBsd,
}

/// Why zig can't compile for a triple.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub text: String,
    pub help: String,
}

fn refused<T>(text: String, help: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { text, help: help.into() })
}

impl ZigTarget {
    pub fn parse(triple: &str) -> Result<Self, Refused> {
        let (words, glibc) = match triple.split_once('.') {
            Some((words, version)) => (words, Some(version)),
            None => (triple, None),
        };
        let parts: Vec<&str> = words.split('-').collect();
        let Some((arch, processor)) = arch_of(parts[0]) else {
            let known: Vec<&str> = ARCHES.iter().flat_map(|arch| arch.rust).map(|(name, _)| *name).collect();
            return refused(
                format!("`{}` of `{triple}` is no processor that is known for zig", parts[0]),
                format!("there are {}", known.join(", ")),
            );
        };
        let (os, abi) = match parts[1..] {
            [os, abi] if os_of(os).is_some() => (os, abi),
            [_vendor, os, abi] => (os, abi),
            [_, os] | [os] => (os, ""),
            _ => ("", ""),
        };
        let Some(os) = os_of(os) else {
            return refused(
                format!("`{triple}` names no system that is known for zig"),
                "there are linux, windows, darwin (macos), freebsd and netbsd: `aarch64-unknown-linux-gnu.2.28`, \
                 `x86_64-pc-windows-gnu`",
            );
        };
        let abi = abi_of(triple, arch, os, abi)?;
        let target =
            Self { arch, rust_arch: parts[0].to_owned(), os, abi: abi.to_owned(), glibc: glibc.map(str::to_owned) };
        target.check_glibc(triple)?;
        target.check_processor(triple, processor)?;
        Ok(target)
    }

    fn check_glibc(&self, triple: &str) -> Result<(), Refused> {
        let Some(version) = &self.glibc else { return Ok(()) };
        if !(self.os == Os::Linux && self.abi.starts_with("gnu")) {
            return refused(
                format!("`.{version}` of `{triple}` would be a version of glibc, which this target does not use"),
                "take it away",
            );
        }
        let numbers: Vec<&str> = version.split('.').collect();
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if numbers.len() != 2 || !numbers.iter().all(is_number) {
            return refused(format!("`{version}` of `{triple}` is no version of glibc"), "write it as in `….2.28`");
        }
        Ok(())
    }

    /// Apple's and Windows' are fewer than Linux has.
    fn check_processor(&self, triple: &str, processor: Option<&str>) -> Result<(), Refused> {
        let is_there = match self.os {
            Os::Linux => true,
            Os::Darwin => matches!(self.arch.zig, "x86_64" | "aarch64"),
            Os::Windows => matches!(self.arch.zig, "x86_64" | "x86" | "aarch64"),
            Os::FreeBsd | Os::NetBsd => matches!(self.arch.zig, "x86_64" | "x86" | "aarch64"),
        };
        if is_there {
            return Ok(());
        }
        let processor = processor.unwrap_or(self.arch.zig);
        refused(format!("zig knows no `{triple}`: that system does not run on `{processor}`"), "")
    }

    /// As zig takes it after `-target`: `aarch64-linux-gnu.2.28`.
    pub fn zig(&self) -> String {
        let mut text = self.zig_without_glibc();
        if let Some(glibc) = &self.glibc {
            text.push('.');
            text.push_str(glibc);
        }
        text
    }

    /// The same as clang understands it too.
    pub fn zig_without_glibc(&self) -> String {
        let os = match self.os {
            Os::Linux => "linux",
            Os::Windows => "windows",
            Os::Darwin => "macos",
            Os::FreeBsd => "freebsd",
            Os::NetBsd => "netbsd",
        };
        let mut text = format!("{}-{os}", self.arch.zig);
        if !self.abi.is_empty() {
            text.push('-');
            text.push_str(&self.abi);
        }
        text
    }

    /// What zig takes after `-mcpu`, where the triple means another processor than zig's usual one.
    pub fn cpu(&self) -> Option<&'static str> {
        arch_of(&self.rust_arch).and_then(|(_, cpu)| cpu).filter(|_| self.os == Os::Linux)
    }

    /// As rustc and rustup take it.
    pub fn rust(&self) -> String {
        let arch = match &*self.rust_arch {
            "arm64" => "aarch64",
            "x86" => "i686",
            "riscv64" => "riscv64gc",
            other => other,
        };
        match self.os {
            Os::Linux => format!("{arch}-unknown-linux-{}", self.abi),
            Os::Windows => format!("{arch}-pc-windows-gnu{}", if self.arch.zig == "aarch64" { "llvm" } else { "" }),
            Os::Darwin => format!("{arch}-apple-darwin"),
            Os::FreeBsd => format!("{arch}-unknown-freebsd"),
            Os::NetBsd => format!("{arch}-unknown-netbsd"),
        }
    }

    /// As `cargo zigbuild` takes it after `--target`: Rust's, and the version of glibc.
    pub fn zigbuild(&self) -> String {
        match &self.glibc {
            Some(glibc) => format!("{}.{glibc}", self.rust()),
            None => self.rust(),
        }
    }

    /// As configure scripts take it after `--host`.
    pub fn gnu(&self) -> String {
        let arch = self.arch.gnu;
        match self.os {
            Os::Linux => format!("{arch}-linux-{}", self.abi),
            Os::Windows => format!("{arch}-w64-mingw32"),
            Os::Darwin => format!("{arch}-apple-darwin"),
            Os::FreeBsd => format!("{arch}-unknown-freebsd"),
            Os::NetBsd => format!("{arch}-unknown-netbsd"),
        }
    }

    /// meson's `system`, `cpu_family`, `cpu` and `endian`.
    pub fn meson(&self) -> [&'static str; 4] {
        let system = match self.os {
            Os::Linux => "linux",
            Os::Windows => "windows",
            Os::Darwin => "darwin",
            Os::FreeBsd => "freebsd",
            Os::NetBsd => "netbsd",
        };
        [system, self.arch.family, self.arch.gnu, if self.arch.is_little { "little" } else { "big" }]
    }

    /// `CMAKE_SYSTEM_NAME` and `CMAKE_SYSTEM_PROCESSOR`.
    pub fn cmake(&self) -> [&'static str; 2] {
        let system = match self.os {
            Os::Linux => "Linux",
            Os::Windows => "Windows",
            Os::Darwin => "Darwin",
            Os::FreeBsd => "FreeBSD",
            Os::NetBsd => "NetBSD",
        };
        let processor = match self.arch.gnu {
            "powerpc64le" => "ppc64le",
            other => other,
        };
        [system, processor]
    }

    pub fn is_windows(&self) -> bool {
        self.os == Os::Windows
    }

    pub fn is_macos(&self) -> bool {
        self.os == Os::Darwin
    }

    pub fn is_elf(&self) -> bool {
        !self.is_windows() && !self.is_macos()
    }

    /// What zig's resource compiler calls the processor.
    pub fn resources(&self) -> &'static str {
        match self.arch.zig {
            "x86" => "x86",
            "aarch64" => "arm64",
            _ => "x64",
        }
    }
}

fn arch_of(name: &str) -> Option<(&'static Arch, Option<&'static str>)> {
    ARCHES.iter().find_map(|arch| {
        let (_, cpu) = arch.rust.iter().find(|(known, _)| *known == name)?;
        Some((arch, *cpu))
    })
}

fn os_of(word: &str) -> Option<Os> {
    match word {
        "linux" => Some(Os::Linux),
        "windows" => Some(Os::Windows),
        "darwin" | "macos" => Some(Os::Darwin),
        "freebsd" => Some(Os::FreeBsd),
        "netbsd" => Some(Os::NetBsd),
        _ => None,
    }
}

/// The ABI, as zig calls it.
fn abi_of<'t>(triple: &str, arch: &Arch, os: Os, abi: &'t str) -> Result<&'t str, Refused> {
    match (os, abi) {
        (Os::Darwin | Os::FreeBsd | Os::NetBsd, "" | "none") => Ok(""),
        (Os::Windows, "gnu" | "gnullvm") => Ok("gnu"),
        (Os::Windows, "msvc") => refused(
            format!("zig has no libraries for `{triple}`: those of Microsoft's compiler are not its own"),
            format!("write `{}-pc-windows-gnu`", triple.split('-').next().unwrap_or_default()),
        ),
        (Os::Linux, abi) if arch.abis.contains(&abi) => Ok(abi),
        _ => {
            let known = if os == Os::Linux { arch.abis.join(", ") } else { "none, or gnu for windows".to_owned() };
            refused(format!("zig knows no `{triple}`: `{abi}` is no ABI there"), format!("there are {known}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is written, then for zig, rustc, configure scripts, meson and CMake.
    type Said = (&'static str, &'static str, &'static str, &'static str, [&'static str; 4], [&'static str; 2]);

    const TRIPLES: &[Said] = &[
        (
            "aarch64-unknown-linux-gnu.2.28",
            "aarch64-linux-gnu.2.28",
            "aarch64-unknown-linux-gnu",
            "aarch64-linux-gnu",
            ["linux", "aarch64", "aarch64", "little"],
            ["Linux", "aarch64"],
        ),
        (
            "aarch64-linux-musl",
            "aarch64-linux-musl",
            "aarch64-unknown-linux-musl",
            "aarch64-linux-musl",
            ["linux", "aarch64", "aarch64", "little"],
            ["Linux", "aarch64"],
        ),
        (
            "x86_64-pc-windows-gnu",
            "x86_64-windows-gnu",
            "x86_64-pc-windows-gnu",
            "x86_64-w64-mingw32",
            ["windows", "x86_64", "x86_64", "little"],
            ["Windows", "x86_64"],
        ),
        (
            "x86_64-windows-gnu",
            "x86_64-windows-gnu",
            "x86_64-pc-windows-gnu",
            "x86_64-w64-mingw32",
            ["windows", "x86_64", "x86_64", "little"],
            ["Windows", "x86_64"],
        ),
        (
            "aarch64-apple-darwin",
            "aarch64-macos",
            "aarch64-apple-darwin",
            "aarch64-apple-darwin",
            ["darwin", "aarch64", "aarch64", "little"],
            ["Darwin", "aarch64"],
        ),
        (
            "armv7-unknown-linux-gnueabihf",
            "arm-linux-gnueabihf",
            "armv7-unknown-linux-gnueabihf",
            "arm-linux-gnueabihf",
            ["linux", "arm", "arm", "little"],
            ["Linux", "arm"],
        ),
        (
            "i686-unknown-linux-musl",
            "x86-linux-musl",
            "i686-unknown-linux-musl",
            "i686-linux-musl",
            ["linux", "x86", "i686", "little"],
            ["Linux", "i686"],
        ),
        (
            "s390x-unknown-linux-gnu",
            "s390x-linux-gnu",
            "s390x-unknown-linux-gnu",
            "s390x-linux-gnu",
            ["linux", "s390x", "s390x", "big"],
            ["Linux", "s390x"],
        ),
        (
            "x86_64-unknown-freebsd",
            "x86_64-freebsd",
            "x86_64-unknown-freebsd",
            "x86_64-unknown-freebsd",
            ["freebsd", "x86_64", "x86_64", "little"],
            ["FreeBSD", "x86_64"],
        ),
    ];

    #[test]
    fn a_triple_is_said_as_each_tool_says_it() {
        for (written, zig, rust, gnu, meson, cmake) in TRIPLES {
            let target = ZigTarget::parse(written).unwrap();
            assert_eq!(
                (&*target.zig(), &*target.rust(), &*target.gnu(), &target.meson(), &target.cmake()),
                (*zig, *rust, *gnu, meson, cmake),
                "{written}"
            );
        }
        let target = ZigTarget::parse("x86_64-unknown-linux-gnu.2.17").unwrap();
        assert_eq!(target.zigbuild(), "x86_64-unknown-linux-gnu.2.17");
    }

    #[test]
    fn what_zig_can_not_compile_for_is_said() {
        for (triple, text) in [
            ("mars-unknown-linux-gnu", "`mars` of `mars-unknown-linux-gnu` is no processor that is known for zig"),
            ("x86_64", "`x86_64` names no system that is known for zig"),
            ("x86_64-unknown-plan9-gnu", "`x86_64-unknown-plan9-gnu` names no system that is known for zig"),
            (
                "x86_64-pc-windows-msvc",
                "zig has no libraries for `x86_64-pc-windows-msvc`: those of Microsoft's compiler are not its own",
            ),
            ("x86_64-unknown-linux-gnueabi", "zig knows no `x86_64-unknown-linux-gnueabi`: `gnueabi` is no ABI there"),
            ("x86_64-unknown-linux", "zig knows no `x86_64-unknown-linux`: `` is no ABI there"),
            ("s390x-apple-darwin", "zig knows no `s390x-apple-darwin`: that system does not run on `s390x`"),
            (
                "aarch64-linux-musl.2.28",
                "`.2.28` of `aarch64-linux-musl.2.28` would be a version of glibc, which this target does not use",
            ),
            ("aarch64-linux-gnu.2", "`2` of `aarch64-linux-gnu.2` is no version of glibc"),
            ("aarch64-linux-gnu.2.x", "`2.x` of `aarch64-linux-gnu.2.x` is no version of glibc"),
        ] {
            assert_eq!(ZigTarget::parse(triple).unwrap_err().text, text);
        }
    }
}
