//! Whether a program of the operator's can be started, without starting it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{NotStarted, identity, search_path};
use crate::health::check::Command;

/// Bits of a file's mode: execution for anyone, and for the owner, the group and others (chmod(2)).
const ANYONE: u32 = 0o111;

/// Why the program could not be started on this host; `None`: nothing is known to prevent it.
pub(in crate::daemon::health) fn missing(command: &Command) -> Option<String> {
    let Command { arguments, user, group } = command;
    let program = arguments.first()?;
    let identity = match identity(user.as_deref(), group.as_deref()) {
        Ok(identity) => identity,
        Err(NotStarted(why)) => return Some(why),
    };
    let Some(path) = place_of(program) else {
        return Some(format!("there is no program {program}; name its whole path"));
    };
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("cannot find {}: {error}; see: ls -l {0}", path.display())),
    };
    if !metadata.is_file() {
        return Some(format!("{} is no program; name its whole path", path.display()));
    }
    // Without a user it runs as the daemon, which need not be the caller.
    let bits = match (identity.uid, identity.gid) {
        (None | Some(0), _) => ANYONE,
        (Some(uid), _) if uid == metadata.uid() => 0o100,
        (_, Some(gid)) if gid == metadata.gid() => 0o010,
        _ => 0o001,
    };
    let by = user.as_ref().map_or(String::new(), |user| format!(" by user {user}"));
    (metadata.permissions().mode() & bits == 0)
        .then(|| format!("{} may not be executed{by}; see: ls -l {0}", path.display()))
}

/// The file of a program: a name without a slash is searched for, as execvp(3) does.
fn place_of(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = Path::new("/").join(program);
        let is_missing =
            matches!(std::fs::metadata(&path), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
        return (!is_missing).then_some(path);
    }
    let path = search_path();
    let places = std::env::split_paths(&path).map(|directory| directory.join(program));
    let mut files = places.filter(|path| path.is_file());
    let first = files.next()?;
    let may_run =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & ANYONE != 0);
    Some(if may_run(&first) { first } else { files.find(may_run).unwrap_or(first) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(arguments: &[&str], user: Option<&str>, group: Option<&str>) -> Command {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Command { arguments, user: user.map(str::to_owned), group: group.map(str::to_owned) }
    }

    fn file(directory: &Path, name: &str, mode: u32) -> String {
        let path = directory.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_program_that_can_be_started_lacks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let own = file(directory.path(), "own", 0o700);
        for command in [
            command(&["/bin/sh", "-c", "true"], None, None),
            command(&["sh"], None, None),
            command(&["/bin/sh"], Some("root"), None),
            command(&["/bin/sh"], Some("65534"), Some("65534")),
            command(&[&own], None, None),
            command(&[&own], Some("0"), None),
        ] {
            assert_eq!(missing(&command), None, "{command:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_started_has_a_reason_with_the_next_step() {
        let directory = tempfile::tempdir().unwrap();
        let (plain, private) =
            (file(directory.path(), "plain", 0o644), file(directory.path(), "private", 0o700));
        let absent = directory.path().join("absent").display().to_string();
        let place = directory.path().display().to_string();
        for (command, expected) in [
            (command(&[&absent], None, None), format!("there is no program {absent}; name its whole path")),
            (
                command(&["lvs-tund-absent"], None, None),
                "there is no program lvs-tund-absent; name its whole path".to_owned(),
            ),
            (command(&[&place], None, None), format!("{place} is no program; name its whole path")),
            (command(&[&plain], None, None), format!("{plain} may not be executed; see: ls -l {plain}")),
            (
                command(&[&plain], Some("0"), None),
                format!("{plain} may not be executed by user 0; see: ls -l {plain}"),
            ),
            (
                command(&[&private], Some("65534"), None),
                format!("{private} may not be executed by user 65534; see: ls -l {private}"),
            ),
            (
                command(&[&format!("{plain}/x")], None, None),
                format!("cannot find {plain}/x: Not a directory (os error 20); see: ls -l {plain}/x"),
            ),
            (
                command(&["/bin/sh"], Some("absent-name"), None),
                "there is no user absent-name on this host".to_owned(),
            ),
            (
                command(&["/bin/sh"], None, Some("absent-name")),
                "there is no group absent-name on this host".to_owned(),
            ),
        ] {
            assert_eq!(missing(&command), Some(expected), "{command:?}");
        }
    }

    #[test]
    fn the_group_and_all_others_have_permissions_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let gid = std::fs::metadata(directory.path()).unwrap().gid().to_string();
        let (of_group, of_others) =
            (file(directory.path(), "group", 0o710), file(directory.path(), "others", 0o701));
        for (path, group, is_fine) in [
            (&of_group, Some(gid.as_str()), true),
            (&of_group, Some("65534"), false),
            (&of_others, Some(gid.as_str()), false),
            (&of_others, Some("65534"), true),
        ] {
            let command = command(&[path], Some("65534"), group);
            assert_eq!(missing(&command).is_none(), is_fine, "{command:?}");
        }
    }
}
