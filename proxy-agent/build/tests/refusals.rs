//! Real, tiny eBPF crates through the real compiler and linker: what is accepted, and how a refusal reads.
//!
//! They share one target directory, so that `core` is compiled once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ::object::{File, Object as _, ObjectSection as _};
use bpf_build::{Error, compile::Job, linker, object, toolchain};

const HEAD: &str = r#"#![no_std]
#![no_main]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
#[repr(C)]
pub struct Context { a: u32, b: u32 }
unsafe fn read(value: *const u32) -> u32 { unsafe { value.read_volatile() } }
"#;
/// Lines of [`HEAD`].
const ABOVE: usize = 10;

const MANIFEST: &str = r#"[package]
name = "NAME"
edition = "2024"
[[bin]]
name = "NAME"
path = "main.rs"
[workspace]
[profile.release]
lto = true
codegen-units = 1
panic = "abort"
"#;

/// Compiles and checks a program of this body, whose crate is called `name`.
fn build(name: &str, body: &str) -> Result<Vec<u8>, Error> {
    let room = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let crate_dir = room.join(name);
    fs::create_dir_all(&crate_dir).expect("a directory for the sample crate");
    write(&crate_dir.join("Cargo.toml"), &MANIFEST.replace("NAME", name));
    write(&crate_dir.join("main.rs"), &format!("{HEAD}{body}"));
    let object = Job {
        crate_dir: &crate_dir,
        bin: name,
        features: &[],
        target_dir: &room.join("target"),
        toolchain: &toolchain::find()?,
        linker: &linker::find()?,
    }
    .run()?;
    let bytes = fs::read(object).expect("the object that the build names");
    object::check(&bytes).map(|()| bytes)
}

fn write(path: &Path, text: &str) {
    // An untouched file is not compiled again.
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).expect("a source file");
    }
}

#[test]
fn a_program_without_panics_is_accepted_and_slims_to_what_a_loader_reads() {
    let body = r#"
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        extern "C" fn entry(context: *const Context) -> i32 { unsafe { (*context).a as i32 } }
    "#;
    let bytes = build("accepted", body).expect("a plain program");
    let slim = object::without_dwarf(&bytes).expect("an object");
    object::check(&slim).expect("an object with BTF and symbols");
    let names = |bytes| {
        let file = File::parse(bytes).expect("an object");
        file.sections().map(|section| section.name().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let debug = |name: &String| name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    let (before, after) = (names(bytes.as_slice()), names(slim.as_slice()));
    assert!(before.iter().any(debug), "{before:?}");
    let kept: Vec<_> = before.into_iter().filter(|name| !debug(name)).chain([".shstrtab".into()]).collect();
    assert_eq!(after, kept);
}

#[test]
fn a_reachable_panic_is_refused_with_its_line_and_the_program_that_reaches_it() {
    let body = r#"static TABLE: [u8; 7] = [1, 2, 3, 4, 5, 6, 9];
        #[inline(never)]
        fn deep(index: u32) -> u32 {
            TABLE[index as usize] as u32
        }
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        extern "C" fn entry(context: *const Context) -> i32 {
            let (a, b) = unsafe { (read(&raw const (*context).a), read(&raw const (*context).b)) };
            (deep(a) + deep(b)) as i32
        }
    "#;
    let error = build("panics", body).expect_err("an unchecked index");
    let expected = format!(
        "the object of the kernel programs is refused:\n    ../panics/main.rs:{} can panic (core::panicking::panic_bounds_check) \
         in panics::deep, reached from entry; mask the index, use .get(), or divide by a constant",
        ABOVE + 4
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_frame_of_more_than_512_bytes_is_refused_by_the_name_of_its_function() {
    let body = r#"
        #[inline(never)]
        fn deep(context: *const Context) -> u32 {
            let mut scratch = [0; 200];
            for slot in &mut scratch { *slot = unsafe { read(&raw const (*context).a) }; }
            scratch.iter().fold(0, |sum, slot| sum.wrapping_add(unsafe { read(slot) }))
        }
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        extern "C" fn entry(context: *const Context) -> i32 { deep(context) as i32 }
    "#;
    let error = build("overflows", body).expect_err("800 bytes of scratch");
    let Error::Stack { functions } = error else { panic!("not a stack overflow: {error}") };
    assert_eq!(functions, "overflows::deep (main.rs)");
}

#[test]
fn a_compiler_error_is_passed_on() {
    let error = build("mistaken", "fn f() -> u32 { \"text\" }").expect_err("a type error");
    let text = error.to_string();
    assert!(text.contains("failed:\n") && text.contains("error[E0308]"), "{text}");
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    let error = object::check(b"#!/bin/sh\n").expect_err("a script");
    assert!(error.to_string().contains("it is not a BPF object"), "{error}");
    let own = std::env::current_exe().and_then(fs::read).expect("this test's own program");
    let error = object::check(&own).expect_err("a program of the host");
    assert!(error.to_string().contains("its machine is"), "{error}");
}
