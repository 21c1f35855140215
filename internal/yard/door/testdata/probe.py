"""What a hostile job says to its door. Prints one line: how it was answered."""
import socket, ssl, struct, sys

def raw(host, port, data, more=None, wait=20):
    """Sends data, and more after the first answer; returns all that came back."""
    s = socket.create_connection((host, port), timeout=wait)
    got = b""
    try:
        for d in data if isinstance(data, list) else [data]:
            s.sendall(d)
        if more is not None:
            got += s.recv(65536)
            s.sendall(more)
        while True:
            b = s.recv(65536)
            if not b:
                return got + b"<end>"
            got += b
    except ConnectionResetError:
        return got + b"<reset>"
    except socket.timeout:
        return got + b"<silence>"

def hello(name):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = ctx.wrap_bio(i, o, server_hostname=name)
    try:
        s.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return o.read()[5:]

def record(body):
    return b"\x16\x03\x01" + struct.pack(">H", len(body)) + body

def with_extension(h, kind, body):
    """Adds an extension to a ClientHello."""
    h = bytearray(h)
    at = 4 + 2 + 32
    at += 1 + h[at]
    at += 2 + struct.unpack(">H", h[at:at + 2])[0]
    at += 1 + h[at]
    size = struct.unpack(">H", h[at:at + 2])[0]
    h += struct.pack(">HH", kind, len(body)) + body
    h[at:at + 2] = struct.pack(">H", size + 4 + len(body))
    h[1:4] = struct.pack(">I", len(h) - 4)[1:]
    return bytes(h)

def tls(host, name, port=443):
    """Speaks TLS with another name than the host's."""
    return raw(host, port, record(hello(name)))

what, host = sys.argv[1], sys.argv[2]
if what == "sni":
    got = tls(host, sys.argv[3])
elif what == "no-sni":
    got = tls(host, None)
elif what == "ech":
    got = raw(host, 443, record(with_extension(hello(host), 0xfe0d, b"\x00" * 40)))
elif what == "split":  # one byte in each record, with a foreign name
    got = raw(host, 443, [record(bytes([b])) for b in hello(sys.argv[3])])
elif what == "huge":
    got = raw(host, 443, record(b"\x01\x04\x00\x00" + b"x" * 1000))
elif what == "long":  # within what TLS allows, beyond what a door reads
    got = raw(host, 443, [record(b"\x01\x00\xff\x00" + b"\x00" * 16000)] + [record(b"\x00" * 16000)] * 3)
elif what == "plain":
    got = raw(host, int(sys.argv[3]), sys.argv[4].encode().decode("unicode_escape").encode(), None)
elif what == "second":  # a request for the host, and another in the same connection
    got = raw(host, 80, b"GET /first HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n",
              b"GET /second HTTP/1.1\r\nHost: " + sys.argv[3].encode() + b"\r\nConnection: close\r\n\r\n")
elif what == "silent":
    got = raw(host, int(sys.argv[3]), b"")
elif what == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((host, int(sys.argv[3])))
    s.send(b"x")
    try:
        got = s.recv(100)
    except OSError as e:
        got = type(e).__name__.encode()
elif what == "dns":  # a question of another type, and how many answers there were
    name = b"".join(bytes([len(l)]) + l.encode() for l in host.split(".")) + b"\x00"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + struct.pack(">HH", int(sys.argv[3]), 1), ("198.18.0.1", 53))
    b = s.recv(4096)
    got = b"code %d answers %d" % (b[3] & 15, struct.unpack(">H", b[6:8])[0])
elif what == "connect":
    f = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.socket(f)
    s.settimeout(20)
    try:
        s.connect((host, int(sys.argv[3])))
        got = b"connected"
    except OSError as e:
        got = type(e).__name__.encode() + b" " + str(e.errno).encode()
print(got[:4000])
