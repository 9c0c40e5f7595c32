//! Do any bytes on an HTTP/1 connection cause a panic, or a task that never ends (S-FRAME-14)?
#![no_main]

use libfuzzer_sys::fuzz_target;
use stepgate::server::conn::Stream;
use stepgate_fuzz::gate::Gate;
use stepgate_fuzz::{connection, input, on_a_data_thread, split};

fuzz_target!(|data: &[u8]| {
    let Some(([choice], text)) = split(data) else { return };
    let gate = Gate::get();
    let pieces = input::pieces(text, &gate.cookie);
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    // One of them is a trusted proxy, whose fields are read too.
    let from = if choice & 1 == 0 { "192.0.2.7:999" } else { "10.0.0.4:999" };
    on_a_data_thread(async {
        let (stream, client) = connection();
        gate.serve(Stream::plain(stream, ()), client, from, &pieces).await
    });
    gate.app.take();
});
