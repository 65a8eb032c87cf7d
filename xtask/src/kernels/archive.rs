//! The first file system of a kernel: an archive in the form `newc` of `cpio`, which the kernel unpacks by itself
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). Knows nothing of what is in it.

/// Where the archive ends.
const END: &str = "TRAILER!!!";
/// Files and records begin at multiples of it.
const ALIGNMENT: usize = 4;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    /// A directory; its parents come before it.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, 0o40_755, (0, 0), &[]);
    }

    /// A file that may be executed.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(path, 0o100_755, (0, 0), content);
    }

    /// The device that the first process writes to before it has mounted any.
    pub(super) fn console(&mut self) {
        self.add("dev/console", 0o20_600, (5, 1), &[]);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add(END, 0, (0, 0), &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.files += 1;
        let (size, name) = (content.len() as u32, path.len() as u32 + 1);
        let fields = [self.files, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_header_of_110_bytes_a_name_and_the_content_each_padded_to_four() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let header = "070701\
            00000001000081ed0000000000000000000000010000000000000005\
            000000000000000000000000000000000000000500000000";
        let record = [header.as_bytes(), b"init\0\0", b"hello\0\0\0"].concat();
        assert_eq!(header.len(), 110);
        let bytes = archive.finish();
        assert_eq!(bytes[..record.len()], record);
        assert_eq!(&bytes[record.len()..record.len() + 6], b"070701");
        assert!(bytes.len().is_multiple_of(ALIGNMENT));
    }
}
