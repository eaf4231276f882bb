//! String commands over a socket.

use crate::support::Server;

#[test]
fn set_and_get() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.shown("SET k v"), "+OK");
    assert_eq!(client.shown("GET k"), "\"v\"");
}
