//! An OCI image of static binaries, as an archive that `ctr images import`, `docker load`, `kind load image-archive` and
//! `skopeo` read: one index over one manifest per platform. Knows nothing of how the binaries came to be.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::archive::{Entry, tar};

/// A platform's own part of an image.
pub(super) struct Platform {
    /// As OCI names it: `amd64`, `arm64`.
    pub(super) architecture: &'static str,
    /// Files of the root, in the order in which they are packed.
    pub(super) files: Vec<Entry>,
}

/// What is said of all platforms alike.
pub(super) struct About<'a> {
    /// Full name with tag, for who loads the archive.
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// What a container runs.
    pub(super) entrypoint: &'a [&'a str],
}

/// An archive, and what identifies it.
pub(super) struct Image {
    pub(super) archive: Vec<u8>,
    /// Of the index: what a registry would be asked for.
    pub(super) digest: String,
    /// Bytes of the compressed layer of each platform: what a node pulls.
    pub(super) pulled: Vec<(&'static str, usize)>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The image of these platforms.
///
/// # Errors
/// The compressor is missing.
pub(super) fn build(
    about: &About<'_>,
    platforms: &[Platform],
    gzip: fn(&[u8]) -> Result<Vec<u8>>,
) -> Result<Image> {
    ensure!(!platforms.is_empty(), "an image of no platform");
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    let mut pulled = Vec::new();
    for platform in platforms {
        let plain = tar(&platform.files);
        let layer = gzip(&plain)?;
        pulled.push((platform.architecture, layer.len()));
        let config = json!({
            "architecture": platform.architecture,
            "os": "linux",
            "config": {
                "Entrypoint": about.entrypoint,
                "Env": ["PATH=/"],
                "Labels": {"org.opencontainers.image.version": about.version},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&plain)]},
            "history": [{"created_by": "cargo xtask image"}],
        });
        let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", layer);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"architecture": platform.architecture, "os": "linux"});
        manifests.push(manifest);
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes();
    let digest = digest(&index);
    let mut named = blobs.add(INDEX, index);
    // The first is containerd's, the second everybody's.
    let tag = about.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    named["annotations"] =
        json!({"io.containerd.image.name": about.name, "org.opencontainers.image.ref.name": tag});
    let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
    let mut entries = vec![
        Entry::file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#),
        Entry::file("index.json", 0o644, top.to_string()),
        Entry::directory("blobs/"),
        Entry::directory("blobs/sha256/"),
    ];
    entries.extend(blobs.entries);
    Ok(Image { archive: tar(&entries), digest, pulled })
}

#[derive(Default)]
struct Blobs {
    entries: Vec<Entry>,
}

impl Blobs {
    /// Puts a blob in, once, and answers its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        let path = format!("blobs/{}", digest.replace(':', "/"));
        if !self.entries.iter().any(|entry| entry.path == path) {
            self.entries.push(Entry::file(path, 0o644, bytes));
        }
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }
}

/// As OCI writes it.
pub(super) fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_leads_to_a_blob_of_its_size_and_digest_and_the_same_files_make_the_same_bytes() {
        let platform = |architecture| Platform {
            architecture,
            files: vec![Entry::file("proxy-agent", 0o755, architecture)],
        };
        let platforms = [platform("amd64"), platform("arm64")];
        let about = About { name: "sluice.dev/sluice:1", version: "1", entrypoint: &["/proxy-agent"] };
        let plain = |bytes: &[u8]| Ok(bytes.to_vec());
        let image = build(&about, &platforms, plain).expect("an image");
        assert_eq!(image.archive, build(&about, &platforms, plain).expect("an image").archive);

        let dir = std::env::temp_dir().join(format!("sluice-layout-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("i.tar"), &image.archive).expect("a file");
        let status = std::process::Command::new("tar").current_dir(&dir).args(["-xf", "i.tar"]).status();
        assert!(status.expect("tar").success());
        let read = |descriptor: &Value| {
            let text = descriptor["digest"].as_str().expect("a digest");
            let bytes = std::fs::read(dir.join("blobs").join(text.replace(':', "/"))).expect("a blob");
            assert_eq!(
                (digest(&bytes), bytes.len() as u64),
                (text.to_owned(), descriptor["size"].as_u64().expect("a size"))
            );
            bytes
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
        let top = parse(&std::fs::read(dir.join("index.json")).expect("a file"));
        assert_eq!(top["manifests"][0]["digest"], image.digest);
        let index = parse(&read(&top["manifests"][0]));
        for (manifest, architecture) in
            index["manifests"].as_array().expect("a list").iter().zip(["amd64", "arm64"])
        {
            assert_eq!(manifest["platform"], json!({"architecture": architecture, "os": "linux"}));
            let manifest = parse(&read(manifest));
            let config = parse(&read(&manifest["config"]));
            let layer = read(&manifest["layers"][0]);
            assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&layer)]));
            assert_eq!(config["architecture"], architecture);
        }
        std::fs::remove_dir_all(&dir).expect("gone");
    }
}
