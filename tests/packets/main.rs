//! Golden packets: the real programs on real maps, one packet in, one packet out.

mod programs;
