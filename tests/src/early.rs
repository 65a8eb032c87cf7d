//! The XDP program beside those of tc: the same maps, the same packets, run by `BPF_PROG_TEST_RUN`.

use aya::programs::{TestRun as _, TestRunOptions, Xdp, xdp::XdpMode};
use proxy_common::Reason;

use crate::dataplane::{Dataplane, Run};
use crate::object;

/// Codes that the program may return.
pub mod code {
    /// Gone.
    pub const DROP: i32 = 1;
    /// On to the kernel.
    pub const PASS: i32 = 2;
    /// Out of the device that it came in by.
    pub const RETURN: i32 = 3;
}

/// What the program made of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// On to the kernel as it came, counted by nobody.
    Passed,
    /// It ended here.
    Ended(Run),
}

impl Dataplane {
    /// The XDP program, loaded.
    ///
    /// # Panics
    /// If the verifier refuses it; the message is its log.
    pub fn early_program(&mut self) -> &mut Xdp {
        const NAME: &str = "early_wire";
        let program = self.object().program_mut(NAME).expect("the object has it");
        let program: &mut Xdp = program.try_into().expect("an XDP program");
        if program.fd().is_err() {
            object::load_program(NAME, || program.load());
        }
        program
    }

    /// Attaches it in the device's driver: the kernel runs a test on a device's queue only if that knows XDP.
    ///
    /// # Panics
    /// If the driver cannot.
    pub fn attach_early(&mut self, device: &str) {
        self.early_program().attach(device, XdpMode::Driver).expect("the driver takes the program");
    }

    /// Runs it on a frame that comes in by a device.
    ///
    /// # Panics
    /// If the kernel refuses, if a packet that passed was changed or counted, or one that ended was not counted once
    /// in each table.
    pub fn run_early(&mut self, device: u32, bytes: &[u8]) -> Fate {
        let before = [object::counters(self.object()), object::early(self.object())];
        let mut out = vec![0; bytes.len() + 256];
        let result = self
            .early_program()
            .test_run(TestRunOptions {
                data_in: Some(bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&context(device, bytes.len())),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("early_wire: {error}"));
        out.truncate(result.data_size_out as usize);
        let after = [object::counters(self.object()), object::early(self.object())];
        let [all, early] = [0, 1].map(|table| {
            let grown = |(reason, count): (&Reason, &u64)| {
                let grown = count - before[table].get(reason).copied().unwrap_or_default();
                (grown != 0).then_some((*reason, grown))
            };
            after[table].iter().filter_map(grown).collect::<Vec<_>>()
        });
        assert_eq!(all, early, "what ends here is in both tables");
        let code = result.return_value.cast_signed();
        match all[..] {
            [] => {
                assert_eq!((code, &out[..]), (code::PASS, bytes), "what passes is as it came");
                Fate::Passed
            }
            [(reason, 1)] => Fate::Ended(Run { reason, code, bytes: out }),
            _ => panic!("early_wire counted {all:?}"),
        }
    }
}

/// `struct xdp_md`: where the data ends, and the device.
fn context(device: u32, length: usize) -> [u8; 24] {
    let length = u32::try_from(length).expect("a packet");
    let words = [0, length, 0, device, 0, 0];
    let mut context = [0; 24];
    for (bytes, word) in context.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    context
}
