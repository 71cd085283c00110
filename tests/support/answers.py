import http.server, os, sys
version = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "version")).read().strip()
if "crash" in version:
    sys.exit("no disk today")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if "broken" in version else 200)
        self.end_headers()
        self.wfile.write(version.encode())
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
