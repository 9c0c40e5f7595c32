//! Has every host one spelling, and is it a host to others too?
#![no_main]

use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use stepgate::domain::host::{HostName, Scheme};
use stepgate_fuzz::split;

fuzz_target!(|data: &[u8]| {
    let Some(([choice], raw)) = split(data) else { return };
    let scheme = if choice & 1 == 0 { Scheme::Https } else { Scheme::Http };
    let Ok(host) = HostName::parse(raw, scheme) else { return };
    let text = host.as_str();
    assert_eq!(HostName::parse(text.as_bytes(), scheme).as_ref(), Ok(&host));
    assert_eq!(HostName::parse(raw.to_ascii_uppercase().as_slice(), scheme).as_ref(), Ok(&host));
    assert!(text.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{text:?}");
    assert!(!text.contains(['@', '/', '\\', '?', '#', ',', '%', '*']), "{text:?}");
    let name = host.name();
    assert!(!name.is_empty() && !name.ends_with('.') && name.len() <= 253, "{text:?}");
    // Name and port are the whole of it, and the scheme's own port is never said.
    let own = scheme.default_port();
    match host.port() {
        None => {
            assert_eq!(name, text);
            let said = format!("{text}:{own}");
            assert_eq!(HostName::parse(said.as_bytes(), scheme).as_ref(), Ok(&host));
        }
        Some(port) => {
            assert_ne!(port, own);
            assert_eq!(format!("{name}:{port}"), text);
        }
    }
    // The same name and port to another reader.
    let other: Authority = text.parse().unwrap_or_else(|e| panic!("{text:?} is no authority: {e}"));
    assert_eq!((other.host(), other.port_u16()), (name, host.port()), "{text:?}");
});
