//! Does the PROXY header end where it says, whatever follows it and however it arrives?
#![no_main]

use libfuzzer_sys::fuzz_target;
use stepgate::server::proxy_protocol::{HeaderError, Told, read};
use stepgate_fuzz::{connection, on_a_data_thread, split};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is told, and what is left for TLS or HTTP. `cut`: the bytes arrive in two pieces.
fn told(sent: &[u8], cut: usize) -> (Result<Told, HeaderError>, Vec<u8>) {
    on_a_data_thread(async {
        let (mut gate, mut client) = connection();
        let (first, second) = sent.split_at(cut.min(sent.len()));
        client.write_all(first).await.expect("room for it");
        let rest_of_it = async {
            // The reader has taken what there was, and waits.
            tokio::task::yield_now().await;
            client.write_all(second).await.expect("room for it");
            client.shutdown().await.expect("a socket");
        };
        let (told, ()) = tokio::join!(read(&mut gate), rest_of_it);
        let mut left = Vec::new();
        gate.read_to_end(&mut left).await.expect("a socket");
        (told, left)
    })
}

fuzz_target!(|data: &[u8]| {
    let Some(([cut], sent)) = split(data) else { return };
    let (whole, left) = told(sent, sent.len());
    let (pieces, left_of_pieces) = told(sent, usize::from(cut));
    match (&whole, &pieces) {
        (Ok(a), Ok(b)) => assert_eq!((a, &left), (b, &left_of_pieces)),
        (Err(_), Err(_)) => return,
        _ => panic!("{whole:?} at once, {pieces:?} in two pieces"),
    }
    let header = sent.strip_suffix(left.as_slice()).expect("what is left is the end of what came");
    let Ok(Told { client, .. }) = whole else { return };
    if header.starts_with(b"PROXY ") {
        assert!(header.len() <= 107 && header.ends_with(b"\r\n"));
        let line = &header[..header.len() - 2];
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n'));
        // Behind UNKNOWN may stand anything (section 2.1 of the specification).
        if let Some(client) = client {
            let line = std::str::from_utf8(line).expect("a line of text");
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), 6, "{line:?}");
            assert_eq!(words[2].parse(), Ok(client.ip()), "{line:?}");
            assert_eq!(words[4].parse(), Ok(client.port()), "{line:?}");
        }
    } else {
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert_eq!(header.len(), 16 + length);
        assert_eq!(header[12] >> 4, 2);
        // LOCAL names nobody; a family with addresses names the first of them.
        let named = match (header[12] & 0xf, header[13] >> 4) {
            (1, 1) => Some((header[16..20].to_vec(), [header[24], header[25]])),
            (1, 2) => Some((header[16..32].to_vec(), [header[48], header[49]])),
            _ => None,
        };
        let said = client.map(|addr| match addr.ip() {
            std::net::IpAddr::V4(v4) => (v4.octets().to_vec(), addr.port().to_be_bytes()),
            std::net::IpAddr::V6(v6) => (v6.octets().to_vec(), addr.port().to_be_bytes()),
        });
        assert_eq!(said, named);
    }
});
