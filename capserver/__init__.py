"""The capitalization server: each line comes back in upper case.

The wire protocol:

- TCP, port 59898, UTF-8 text. Each line ends in LF. The reply to a line is the line in upper case
  (`str.upper`, all of Unicode: `straße` becomes `STRASSE`) with its terminator: CR LF stays CR LF.
- An empty line is answered by an empty line. An unterminated last line is answered when the peer
  shuts down its sending side. Lines are answered in order, however they were cut into segments.
- An error is a reply that starts with `error: ` and ends in LF. No capitalized reply contains a
  lower-case ASCII letter, so the two can't be confused. A line that is not UTF-8 costs that line;
  after a line longer than the limit, and when the server is full, the connection is closed.
- With TLS, all of that inside it.
"""

HOST = "127.0.0.1"  # nobody outside this machine, unless asked for
PORT = 59898  # the port of Dr. Toal's networking examples
