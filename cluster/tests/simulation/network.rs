//! Connections between simulated hosts. Names take the place of certificates.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use seam_cluster::peer::{Incoming, Listener, Network, Stream};
use seam_cluster::tls::{Identity, Protocol, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

/// The network as a host sees it.
pub struct SimulatedNetwork {
    pub name: String,
}

impl Network for SimulatedNetwork {
    fn connect(
        &self,
        address: String,
        protocol: Protocol,
    ) -> BoxFuture<'static, io::Result<(Stream, Identity)>> {
        let name = self.name.clone();
        Box::pin(async move {
            let mut stream = TcpStream::connect(address).await?;
            let hello = [protocol.alpn(), b"\0", name.as_bytes(), b"\n"].concat();
            stream.write_all(&hello).await?;
            let theirs = line(&mut stream).await?;
            let identity = Identity { name: theirs, role: Role::Node };
            Ok((Box::new(stream) as Stream, identity))
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let name = self.name.clone();
        Box::pin(async move {
            let port = address.rsplit(':').next().unwrap().to_owned();
            let tcp = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
            Ok(Box::new(SimulatedListener { tcp, name }) as Box<dyn Listener>)
        })
    }
}

struct SimulatedListener {
    tcp: TcpListener,
    name: String,
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let (mut stream, _) = self.tcp.accept().await?;
            let name = self.name.clone();
            Ok(Box::pin(async move {
                let hello = line(&mut stream).await?;
                let (alpn, theirs) = hello.split_once('\0').ok_or(io::ErrorKind::InvalidData)?;
                let protocol =
                    Protocol::from_alpn(alpn.as_bytes()).ok_or(io::ErrorKind::InvalidData)?;
                stream.write_all(format!("{name}\n").as_bytes()).await?;
                let identity = Identity { name: theirs.to_owned(), role: Role::Node };
                Ok((Box::new(stream) as Stream, protocol, identity))
            }) as Incoming)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    String::from_utf8(line).map_err(io::Error::other)
}
