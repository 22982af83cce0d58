//! Where the configuration and the state are: environment, defaults, `~`.
//!
//! The only part of the library that reads the environment.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The folders that the environment names.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub home: Option<PathBuf>,
    pub config_home: Option<PathBuf>,
    pub state_home: Option<PathBuf>,
    pub runtime: Option<PathBuf>,
}

/// The system's configuration, used where a user has none.
pub const SYSTEM_CONFIG: &str = "/etc/foldsync/sync.toml";

impl Places {
    pub fn from_environment() -> Places {
        Places::from_variables(|name| std::env::var_os(name), etcetera::home_dir().ok())
    }

    /// A relative path in an XDG variable counts as unset, as the XDG text says.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Places {
        let home = home.filter(|home| home.is_absolute());
        let folder =
            |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Places {
            config_home: folder("XDG_CONFIG_HOME")
                .or(home.as_ref().map(|home| home.join(".config"))),
            state_home: folder("XDG_STATE_HOME")
                .or(home.as_ref().map(|home| home.join(".local/state"))),
            runtime: folder("XDG_RUNTIME_DIR"),
            home,
        }
    }

    /// Where a user's configuration belongs, whether it exists or not.
    pub fn user_config(&self) -> Option<PathBuf> {
        self.config_home.as_ref().map(|folder| folder.join("foldsync/sync.toml"))
    }

    /// Every place where a configuration is looked for, first match wins.
    pub fn config_candidates(&self) -> Vec<PathBuf> {
        self.user_config().into_iter().chain([PathBuf::from(SYSTEM_CONFIG)]).collect()
    }

    pub fn state_dir(&self) -> Option<PathBuf> {
        self.state_home.as_ref().map(|folder| folder.join("foldsync"))
    }
}

/// An absolute path out of an absolute one or one below `~`; without `.` and repeated `/`.
pub fn expand(text: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("a path cannot contain a NUL character".to_owned());
    }
    let path = if text == "~" || text.starts_with("~/") {
        let home = home.ok_or("`~` cannot be resolved: HOME is not set")?;
        home.join(text[1..].trim_start_matches('/'))
    } else if text.starts_with('~') {
        return Err(format!("`{text}`: only your own `~` is known, write the path in full"));
    } else {
        PathBuf::from(text)
    };
    if !path.is_absolute() {
        return Err(format!("`{text}` is not an absolute path: begin with `/` or `~/`"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{text}` contains `..`: write the path without it"));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        Places::from_variables(find, Some(PathBuf::from("/home/ann")))
    }

    #[test]
    fn the_xdg_variables_decide_and_home_is_the_fallback() {
        let own = places(&[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")]);
        assert_eq!(own.user_config(), Some(PathBuf::from("/c/foldsync/sync.toml")));
        assert_eq!(own.state_dir(), Some(PathBuf::from("/s/foldsync")));
        let plain = places(&[]);
        assert_eq!(
            plain.user_config(),
            Some(PathBuf::from("/home/ann/.config/foldsync/sync.toml"))
        );
        assert_eq!(plain.state_dir(), Some(PathBuf::from("/home/ann/.local/state/foldsync")));
        assert_eq!(plain.config_candidates()[1], PathBuf::from("/etc/foldsync/sync.toml"));
    }

    #[test]
    fn a_relative_xdg_folder_counts_as_unset() {
        let odd = places(&[("XDG_CONFIG_HOME", "conf"), ("XDG_STATE_HOME", "")]);
        assert_eq!(odd.user_config(), Some(PathBuf::from("/home/ann/.config/foldsync/sync.toml")));
        assert_eq!(odd.state_dir(), Some(PathBuf::from("/home/ann/.local/state/foldsync")));
    }

    #[test]
    fn a_tilde_is_the_home_folder_only_at_the_start() {
        let home = Path::new("/home/ann");
        assert_eq!(expand("~/Documents/", Some(home)), Ok(PathBuf::from("/home/ann/Documents")));
        assert_eq!(expand("~", Some(home)), Ok(PathBuf::from("/home/ann")));
        assert_eq!(expand("/srv//a/./b~", Some(home)), Ok(PathBuf::from("/srv/a/b~")));
        for bad in ["~bob/x", "Documents", "./x", "/a/../b", "", "/a\0b"] {
            assert!(expand(bad, Some(home)).is_err(), "{bad:?}");
        }
        assert!(expand("~/x", None).is_err());
    }
}
