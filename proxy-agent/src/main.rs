//! Entry of `proxy-agent`.

fn main() {}
