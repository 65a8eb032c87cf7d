//! Tar archives that say nothing of when, where or by whom they were made: same files, same bytes. Knows no images.

/// One file or directory of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Without a slash in front.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    File(Vec<u8>),
    Directory,
}

impl Entry {
    pub(crate) fn file(path: impl Into<String>, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode, content: Content::File(bytes.into()) }
    }

    pub(crate) fn directory(path: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o755, content: Content::Directory }
    }
}

/// Bytes of a block of an archive (POSIX.1-1988, ustar).
const BLOCK: usize = 512;

/// The archive of these entries, in this order.
pub(super) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in entries {
        let (kind, bytes): (u8, &[u8]) = match &entry.content {
            Content::File(bytes) => (b'0', bytes),
            Content::Directory => (b'5', &[]),
        };
        all.extend_from_slice(&header(&entry.path, entry.mode, bytes.len(), kind));
        all.extend_from_slice(bytes);
        all.resize(all.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are the end.
    all.resize(all.len() + 2 * BLOCK, 0);
    all
}

/// Owner, group and time are zero: they would be somebody's.
fn header(path: &str, mode: u32, size: usize, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(path.len() <= 100, "{path} is too long for a name");
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    // The sum counts its own field as blanks.
    put(148, "        ");
    put(257, "ustar");
    put(263, "00");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tar(1) makes of an archive is what was put in.
    #[test]
    fn tar_unpacks_what_was_packed() {
        let dir = std::env::temp_dir().join(format!("sluice-archive-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = dir.join("a.tar");
        let entries =
            [Entry::directory("d/"), Entry::file("d/x", 0o755, "one"), Entry::file("y", 0o644, vec![7; 513])];
        std::fs::write(&file, tar(&entries)).expect("a file");
        let run = |args: &[&str]| {
            let tar = std::process::Command::new("tar").current_dir(&dir).args(args).output().expect("tar");
            assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
            String::from_utf8(tar.stdout).expect("text")
        };
        let listed = run(&["--utc", "--numeric-owner", "-tvf", "a.tar"]);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            listed.lines().map(words).collect::<Vec<_>>(),
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 d/",
                "-rwxr-xr-x 0/0 3 1970-01-01 00:00 d/x",
                "-rw-r--r-- 0/0 513 1970-01-01 00:00 y"
            ]
        );
        run(&["-xf", "a.tar"]);
        assert_eq!(std::fs::read(dir.join("d/x")).expect("a file"), b"one");
        assert_eq!(std::fs::read(dir.join("y")).expect("a file"), [7; 513]);
        std::fs::remove_dir_all(&dir).expect("gone");
    }
}
