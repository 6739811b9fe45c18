/* A way to the host that counts open event streams and logs, and can hold the former still. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export class StreamProxy {
  open = 0;
  opened = 0;
  logs = 0;
  isFrozen = false;
  private readonly server: http.Server;

  constructor(private readonly host: () => string) {
    this.server = http.createServer((request, response) => this.pass(request, response));
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private pass(request: http.IncomingMessage, response: http.ServerResponse): void {
    const isStream = request.url!.startsWith('/api/v1/events');
    const up = http.request(new URL(request.url!, this.host()), { method: request.method!, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.on('data', (data: Buffer) => !(isStream && this.isFrozen) && response.write(data));
      answer.on('end', () => response.end());
      answer.on('error', () => response.destroy());
    });
    if (isStream) {
      this.open++;
      this.opened++;
      response.on('close', () => {
        this.open--;
        up.destroy();
      });
    }
    if (request.url!.includes('/logs?')) {
      this.logs++;
      response.on('close', () => {
        this.logs--;
        up.destroy();
      });
    }
    up.on('error', () => response.destroy());
    request.pipe(up);
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
