//! The kernel programs of Sluice: entry functions only. Each is one call and one match from a reason to an action.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the build refuses an object with a panic path.
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod probe {
    use aya_ebpf::{macros::{classifier, map}, maps::HashMap, programs::TcContext};
    use proxy_common::{Addr6, Frontend, FrontendKey, Port, Proto};
    #[map(name = "frontends6")]
    static F6: HashMap<FrontendKey<Addr6>, Frontend> = HashMap::with_max_entries(16, 0);
    #[classifier]
    pub fn probe(c: TcContext) -> i32 {
        let k = FrontendKey::new(Addr6::from_words([c.len(); 4]), Port::new(80), Proto::TCP);
        match unsafe { F6.get(&k) } { Some(f) => f.generation as i32, None => -1 }
    }
}
