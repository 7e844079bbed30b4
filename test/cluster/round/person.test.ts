import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { personOf } from '../../../src/net/person.js';
import { peerOf } from '../../../src/net/upgrade.js';

test('an IPv4 address is a person, with a port and without, also as a socket for IPv6 shows it', () => {
  for (const text of ['192.0.2.7', '192.0.2.7:4711', '::ffff:192.0.2.7', '[::ffff:192.0.2.7]:80', '::FFFF:c000:207'])
    expect(personOf(text)).toBe('192.0.2.7');
  expect(personOf('127.0.0.2:1')).not.toBe(personOf('127.0.0.1:1'));
});

test('an IPv6 address counts by its first 64 bits', () => {
  const person = personOf('2001:db8:1:2:3:4:5:6');
  for (const text of ['2001:db8:1:2::', '[2001:0db8:0001:0002:ffff::1]:7070', '2001:DB8:1:2:0:0:0:9'])
    expect(personOf(text)).toBe(person);
  for (const text of ['2001:db8:1:3:3:4:5:6', '[2001:db8::1]:7070', '2001:db8:1::2'])
    expect(personOf(text)).not.toBe(person);
});

test('link-local addresses and the loopback address count whole', () => {
  expect(personOf('fe80::1%eth0')).toBe(personOf('[fe80::1%25eth0]:7070'));
  expect(personOf('fe80::1%eth0')).not.toBe(personOf('fe80::2%eth0'));
  expect(personOf('fe80::1%eth0')).not.toBe(personOf('fe80::1%eth1'));
  expect(personOf('[::1]:7070')).toBe(personOf('::1'));
  expect(personOf('::1')).not.toBe(personOf('::2'));
});

test('what is no address is a person of its own', () => {
  for (const text of ['?', '', 'a:b', '[]:1', 'localhost']) expect(personOf(text)).toBe(personOf(text));
  expect(personOf('?')).toBe('?');
  expect(personOf('localhost:80')).toBe('localhost');
});

test('a socket names the person that its address does', async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const socket = connect({ port: address.port, host: '127.0.0.1' });
  const [peer] = await accepted;
  expect(personOf(peerOf(peer))).toBe('127.0.0.1');
  socket.destroy();
  peer.destroy();
  server.close();
});
