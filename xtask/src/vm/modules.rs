//! Which modules of a kernel a guest needs, and in which order they load.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

/// The name of the module in `file`, as others name it: files may have a hyphen where the kernel has an underscore, and
/// be compressed. `None`: it holds no module.
pub(super) fn name(file: &Path) -> Option<String> {
    let (name, rest) = file.file_name()?.to_str()?.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

/// Names of the modules that are built into the kernel, by the list in `file`.
pub(super) fn built_in(file: &Path) -> Result<BTreeSet<String>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| name(Path::new(line)))
        .collect())
}

/// Names and contents of the modules `wanted` and of all that they need, each after what it needs; without those built in.
/// `read` has the contents of a module.
pub(super) fn in_order(
    wanted: &[&str],
    built_in: &BTreeSet<String>,
    mut read: impl FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut order = Vec::new();
    for module in wanted {
        add(&module.replace('-', "_"), built_in, &mut read, &mut order)?;
    }
    Ok(order)
}

fn add(
    module: &str,
    built_in: &BTreeSet<String>,
    read: &mut impl FnMut(&str) -> Result<Vec<u8>>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if built_in.contains(module) || order.iter().any(|(added, _)| added == module) {
        return Ok(());
    }
    let content = read(module)?;
    for needed in needs(&content) {
        add(&needed, built_in, read, order).with_context(|| format!("needed by {module}"))?;
    }
    order.push((module.to_owned(), content));
    Ok(())
}

/// What a module says that it needs: a text in its section `.modinfo` (`scripts/mod/modpost.c`, `add_depends`).
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let list = module[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    /// What modules of that name hold.
    fn content(module: &str) -> Result<Vec<u8>> {
        let depends = match module {
            "top" => "left-one,right",
            "left_one" | "right" => "bottom,core",
            "bottom" => "",
            "broken" => "gone",
            _ => bail!("there is no {module}"),
        };
        Ok(format!("\x7fELF\0license=GPL\0depends={depends}\0name={module}\0").into_bytes())
    }

    fn order(wanted: &[&str]) -> Result<Vec<String>> {
        let built_in = BTreeSet::from(["core".to_owned()]);
        let order = in_order(wanted, &built_in, content)?;
        Ok(order.into_iter().map(|(module, _)| module).collect())
    }

    #[test]
    fn each_module_comes_once_and_after_what_it_needs() {
        assert_eq!(
            order(&["core", "top", "left-one"]).expect("an order"),
            ["bottom", "left_one", "right", "top"]
        );
    }

    #[test]
    fn what_is_not_there_is_named_with_what_needs_it() {
        let error = order(&["broken"]).expect_err("gone");
        assert_eq!(format!("{error:#}"), "needed by broken: there is no gone");
    }

    #[test]
    fn files_are_known_by_the_names_of_their_modules() {
        for (file, module) in [
            ("kernel/drivers/vfio/pci/vfio-pci.ko", Some("vfio_pci")),
            ("nvme-core.ko.xz", Some("nvme_core")),
            ("modules.order", None),
            ("a.kobject", None),
        ] {
            assert_eq!(name(Path::new(file)).as_deref(), module, "{file}");
        }
    }
}
