//! The options the kernel was built with (`Documentation/kbuild/kconfig-language.rst`), from wherever this machine
//! keeps them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use thiserror::Error;

/// What an option was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `=y`, or a number or text.
    BuiltIn,
    /// `=m`: there once its module is loaded.
    Module,
    /// Not set, or unknown to this kernel.
    Off,
}

/// The running kernel's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file they were read from.
    pub path: PathBuf,
    options: HashMap<String, Setting>,
}

/// Why the options are not known.
#[derive(Debug, Error)]
#[error("none of {} can be read: {reasons}", .tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
pub struct NoConfig {
    /// Where they were looked for.
    pub tried: Vec<PathBuf>,
    /// What the system said of the first of them that is there, or that none is.
    reasons: String,
}

impl Config {
    /// The options of the running kernel, whose release is `release`.
    ///
    /// # Errors
    /// When no file that holds them can be read.
    pub fn of_running(release: &str) -> Result<Self, NoConfig> {
        Self::first_of(vec![
            PathBuf::from("/proc/config.gz"),
            PathBuf::from(format!("/boot/config-{release}")),
            PathBuf::from(format!("/lib/modules/{release}/config")),
            PathBuf::from(format!("/lib/modules/{release}/build/.config")),
        ])
    }

    fn first_of(tried: Vec<PathBuf>) -> Result<Self, NoConfig> {
        let mut reasons = "none is there".to_owned();
        for path in &tried {
            match read(path) {
                Ok(text) => {
                    return Ok(Self {
                        path: path.clone(),
                        options: parse(&text),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => reasons = format!("{}: {error}", path.display()),
            }
        }
        Err(NoConfig { tried, reasons })
    }

    /// The options of a text, as if read from `path`.
    #[cfg(test)]
    pub(crate) fn of_text(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            options: parse(text),
        }
    }

    /// What `option`, with its `CONFIG_`, was set to.
    pub fn get(&self, option: &str) -> Setting {
        self.options.get(option).copied().unwrap_or(Setting::Off)
    }
}

/// The text of a file, decompressed if its name says that it is compressed.
fn read(path: &Path) -> io::Result<String> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}

fn parse(text: &str) -> HashMap<String, Setting> {
    text.lines()
        .filter_map(|line| {
            // `# CONFIG_X is not set` is a comment: what is not there is off as well.
            let (option, value) = line.split_once('=')?;
            let setting = match value.trim() {
                "n" => Setting::Off,
                "m" => Setting::Module,
                _ => Setting::BuiltIn,
            };
            option
                .starts_with("CONFIG_")
                .then(|| (option.to_owned(), setting))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// A part of `/proc/config.gz` of Linux 6.18.
    const CONFIG: &str = include_str!("testdata/config-6.18");

    #[test]
    fn options_are_told_apart() {
        let config = Config::of_text("config", CONFIG);
        assert_eq!(config.get("CONFIG_BPF_SYSCALL"), Setting::BuiltIn);
        assert_eq!(config.get("CONFIG_HWLAT_TRACER"), Setting::Off);
        assert_eq!(config.get("CONFIG_NO_SUCH_OPTION"), Setting::Off);
        let config = Config::of_text("config", "CONFIG_X86_MSR=m\nCONFIG_HZ=250\n");
        assert_eq!(config.get("CONFIG_X86_MSR"), Setting::Module);
        assert_eq!(config.get("CONFIG_HZ"), Setting::BuiltIn);
    }

    #[test]
    fn the_first_file_that_can_be_read_is_taken() {
        let dir = tempfile::tempdir().expect("folder");
        let (plain, packed) = (dir.path().join("config"), dir.path().join("config.gz"));
        let absent = dir.path().join("absent");
        fs::write(&plain, "CONFIG_A=y\n").expect("write");
        let mut encoder = GzEncoder::new(
            File::create(&packed).expect("create"),
            Compression::default(),
        );
        encoder.write_all(b"CONFIG_B=y\n").expect("write");
        encoder.finish().expect("finish");

        let found = Config::first_of(vec![absent.clone(), packed.clone(), plain]).expect("found");
        assert_eq!(found.path, packed);
        assert_eq!(found.get("CONFIG_B"), Setting::BuiltIn);
        assert_eq!(found.get("CONFIG_A"), Setting::Off);

        let error = Config::first_of(vec![absent.clone()])
            .expect_err("absent")
            .to_string();
        assert!(error.contains(&absent.display().to_string()), "{error}");
        assert!(error.contains("none is there"), "{error}");
    }
}
