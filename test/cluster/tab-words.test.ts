import { expect, test } from 'vitest';
import { advance, INITIAL, type TabReport, type TabState } from '../../cluster/tab/state.js';
import { describePhase, deviceName, explain, obstacles } from '../../cluster/tab/words.js';
import { hexFingerprint } from '../../src/net/join-url.js';

const after = (...reports: TabReport[]): TabState => reports.reduce(advance, INITIAL);

test('a tab says what it does, from the first look for a GPU to the end of the run', () => {
  expect(describePhase(INITIAL)).toBe('Looking for a GPU');
  const joined: TabReport[] = [
    { note: 'adapter', adapter: 'swiftshader', software: true },
    { note: 'joined' },
    { note: 'welcome', worker: 3, step: 7 },
  ];
  expect(describePhase(after(...joined.slice(0, 1)))).toBe('Connecting to the coordinator');
  expect(describePhase(after(...joined, { note: 'compiling', done: 2, total: 9 }))).toBe('Compiling kernels, 2 of 9');
  expect(describePhase(after(...joined, { note: 'ready', version: 6 }))).toBe('Waiting for work');
  const computed = { note: 'computed', step: 7, tokens: 64, milliseconds: 500, share: 0.25 } as const;
  const working = after(...joined, { note: 'ready', version: 6 }, computed, { ...computed, step: 8 });
  expect(describePhase(working)).toBe('Computing as worker 3, step 8');
  expect(working).toMatchObject({ tokensPerSecond: 128, share: 0.25, tokens: 128 });
  const lost = advance(working, { note: 'lost', reason: 'the connection ended' });
  expect(describePhase(lost)).toMatch(/trying again/);
  expect(advance(lost, { note: 'joined' }).problem).toBeUndefined();
  expect(describePhase(advance(lost, { note: 'ended', how: 'done' }))).toBe('The run is done');
});

test('problems come with what to do about them', () => {
  const say = (code: string) =>
    explain({ code, message: 'the run needs 3.20 GB on this adapter, and there is 2.00 GB' });
  expect(say('LT_GPU_MEMORY')).toMatch(/needs 3\.20 GB .* 2\.00 GB\. Close other tabs/);
  expect(say('LT_ANYTHING')).toBe('the run needs 3.20 GB on this adapter, and there is 2.00 GB.');
  const here = { isSecureContext: true, hasWebGpu: true, host: 'h:1' };
  expect(obstacles(here)).toEqual([]);
  expect(obstacles({ ...here, hasWebGpu: false }).join(' ')).toMatch(/no WebGPU.*Chrome.*Safari.*Firefox/);
  expect(obstacles({ ...here, isSecureContext: false, hasWebGpu: false }).join(' ')).toMatch(
    /HTTPS.*h:1.*without --plain.*fingerprint.*--cert FILE --key FILE/,
  );
});

test('a fingerprint reads as in a browser, and devices have names', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
  const text = hexFingerprint(Buffer.from(bytes).toString('base64url'));
  expect(text).toMatch(/^FF:FE:FD(:[0-9A-F]{2}){29}$/);
  const agents = {
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/147.0 Safari/537.36':
      'Chrome on Linux 000',
    'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0 Mobile Safari/537.36':
      'Chrome on Android 000',
    'Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0 Safari/537.36 Edg/147.0':
      'Edge on Windows 000',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/26.0 Mobile Safari/604.1':
      'Safari on iPhone 000',
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0': 'Firefox on macOS 000',
    nothing: 'Browser 000',
  };
  for (const [agent, name] of Object.entries(agents)) expect(deviceName(agent, 0)).toBe(name);
  expect(deviceName('', 0.9999999)).toBe('Browser zzz');
});
