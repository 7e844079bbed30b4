import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { parseJoinUrl } from '../../src/net/join-url.js';
import { Lantrain } from '../cluster/processes.js';
import { SMALL, workFolder } from './run.js';

test('a coordinator takes the next free port where 7070 is taken, and says so', async () => {
  // The port may be taken already, which is enough for the test.
  const other = createServer().on('error', () => {});
  other.listen(7070, '0.0.0.0');
  const folder = workFolder();
  const coordinator = new Lantrain(['coordinator', ...SMALL, '--steps', '2', '--out', 'run'], folder.path);
  try {
    const { port } = parseJoinUrl(await coordinator.printed(/^join .* worker (wss:\S+)/m));
    expect(port).toBeGreaterThan(7070);
    expect(port).toBeLessThan(7090);
    await coordinator.printed(/^watch /m);
    expect(coordinator.text).toContain(`port     ${port}, as 7070 is taken`);
  } finally {
    coordinator.signal('SIGKILL');
    await coordinator.ended;
    other.close();
    folder.remove();
  }
});
