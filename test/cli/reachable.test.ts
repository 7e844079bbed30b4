import type { NetworkInterfaceInfo } from 'node:os';
import { expect, test } from 'vitest';
import {
  anyAddress,
  defaultRoutesOf,
  type Interfaces,
  rankAddresses,
  reachableAddresses,
} from '../../src/node/reachable.js';

const info = (address: string): NetworkInterfaceInfo => {
  const common = { address, netmask: '', mac: '00:00:00:00:00:00', cidr: null };
  const internal = address === '::1' || address.startsWith('127.');
  return address.includes(':')
    ? { ...common, internal, family: 'IPv6', scopeid: 0 }
    : { ...common, internal, family: 'IPv4' };
};

/** Interfaces from `{ eth0: '192.168.1.2 fe80::1' }`, and loopback. */
const machine = (interfaces: Record<string, string>): Interfaces => ({
  lo: [info('127.0.0.1'), info('::1')],
  ...Object.fromEntries(Object.entries(interfaces).map(([name, list]) => [name, list.split(' ').map(info)])),
});

/** what, interfaces, interfaces of default routes, addresses in order. */
const machines: [string, Record<string, string>, string[], string[]][] = [
  ['one cable', { eth0: '192.168.1.20 fe80::1' }, ['eth0'], ['192.168.1.20']],
  [
    'docker before the LAN in the list',
    { docker0: '172.17.0.1', 'br-0123456789ab': '172.18.0.1', veth12ab: 'fe80::2', enp3s0: '192.168.1.20' },
    [],
    ['192.168.1.20', '172.17.0.1', '172.18.0.1'],
  ],
  [
    'virtual machines: libvirt, VirtualBox, VMware',
    { virbr0: '192.168.122.1', vboxnet0: '192.168.56.1', vmnet8: '192.168.77.1', wlp2s0: '10.1.2.3' },
    ['wlp2s0'],
    ['10.1.2.3', '192.168.122.1', '192.168.56.1', '192.168.77.1'],
  ],
  [
    'WSL seen from Windows',
    {
      'vEthernet (WSL (Hyper-V firewall))': '172.28.16.1',
      'vEthernet (Default Switch)': '172.19.0.1',
      'Wi-Fi': '192.168.0.7',
    },
    [],
    ['192.168.0.7', '172.28.16.1', '172.19.0.1'],
  ],
  ['an external switch of Hyper-V is the LAN', { 'vEthernet (LAN)': '192.168.0.7' }, [], ['192.168.0.7']],
  ['inside of WSL', { eth0: '172.28.20.5', docker0: '172.17.0.1' }, ['eth0'], ['172.28.20.5', '172.17.0.1']],
  [
    'a VPN of macOS that took the default route',
    { utun4: '10.8.0.6', en0: '192.168.1.9 2001:db8:1::9', awdl0: 'fe80::3', utun0: 'fe80::4' },
    ['utun4'],
    ['192.168.1.9', '2001:db8:1::9', '10.8.0.6'],
  ],
  [
    'OpenVPN and WireGuard on Linux',
    { tun0: '10.8.0.2', wg0: '10.9.0.2', eth0: '192.168.1.20' },
    ['tun0', 'eth0'],
    ['192.168.1.20', '10.8.0.2', '10.9.0.2'],
  ],
  [
    'Tailscale, whose addresses are of carriers',
    { tailscale0: '100.101.102.103 fd7a:115c:a1e0::1', wlan0: '192.168.1.20' },
    ['wlan0'],
    ['192.168.1.20', '100.101.102.103', 'fd7a:115c:a1e0::1'],
  ],
  ['Tailscale of Windows', { Tailscale: '100.64.0.9', Ethernet: '10.0.0.4' }, [], ['10.0.0.4', '100.64.0.9']],
  [
    'the hotspot of a phone',
    { bridge100: '192.168.64.1', en0: '172.20.10.2' },
    ['en0'],
    ['172.20.10.2', '192.168.64.1'],
  ],
  [
    'the router of a shared connection',
    { wlan0: '10.42.0.1', wwan0: '100.70.1.2' },
    ['wwan0'],
    ['10.42.0.1', '100.70.1.2'],
  ],
  [
    'two cables: the one of the default route first',
    { eth0: '10.77.0.2', eth1: '192.168.1.20' },
    ['eth1'],
    ['192.168.1.20', '10.77.0.2'],
  ],
  [
    'a rented machine',
    { eth0: '203.0.113.7 2001:db8::7', eth1: '10.0.0.7' },
    ['eth0'],
    ['10.0.0.7', '203.0.113.7', '2001:db8::7'],
  ],
  ['a bridge that is the LAN', { vmbr0: '192.168.1.3', enp1s0: 'fe80::5' }, ['vmbr0'], ['192.168.1.3']],
  [
    'a bridge with a name of docker that has the default route',
    { 'br-0123456789ab': '192.168.1.3', docker0: '172.17.0.1' },
    ['br-0123456789ab'],
    ['192.168.1.3', '172.17.0.1'],
  ],
  [
    'IPv6 only: its own network before the world',
    { eth0: '2001:db8::7 fd00::7 fe80::7' },
    ['eth0'],
    ['fd00::7', '2001:db8::7'],
  ],
  [
    'no DHCP beside a container network',
    { eth0: '169.254.10.20 fe80::7', docker0: '172.17.0.1' },
    [],
    ['169.254.10.20', '172.17.0.1'],
  ],
  ['a cable between two machines, without DHCP', { eth0: '169.254.10.20 fe80::7' }, [], ['169.254.10.20']],
  ['link-local IPv6 and nothing else', { eth0: 'fe80::7' }, [], ['fe80::7%eth0']],
  ['nothing but loopback', {}, [], []],
];

test.each(machines)('addresses are ranked, the likeliest first: %s', (_what, interfaces, routes, expected) => {
  for (const order of [Object.entries(interfaces), Object.entries(interfaces).reverse()]) {
    const ranked = rankAddresses(machine(Object.fromEntries(order)), routes).map(({ address }) => address);
    expect(ranked[0]).toBe(expected[0]);
    expect(ranked.sort()).toEqual([...expected].sort());
  }
  const ranked = rankAddresses(machine(interfaces), routes);
  expect(ranked.map(({ address }) => address)).toEqual(expected);
  for (const one of ranked) expect(interfaces[one.interface]).toContain(one.address.split('%')[0]);
});

test("Linux's tables name the interfaces of default routes, by metric", () => {
  const ipv4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0101A8C0	0003	0	0	600	00000000	0	0	0
tun0	00000000	0100080A	0003	0	0	50	00000080	0	0	0
eth0	00000000	0102A8C0	0003	0	0	100	00000000	0	0	0
eth0	0002A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
`;
  const none = '0'.repeat(32);
  const ipv6 = `fd000000000000000000000000000000 40 ${none} 00 ${none} 00000100 00000001 00000000 00000001     eth0
${none} 00 ${none} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     wwan0
${none} 00 ${none} 00 ${none} ffffffff 00000001 00000000 00200200       lo
`;
  expect(defaultRoutesOf(ipv4, ipv6)).toEqual(['eth0', 'wlan0', 'wwan0']);
  expect(defaultRoutesOf('', '')).toEqual([]);
});

test('a socket for IPv4 only is reached by IPv4 only, and one for all takes IPv6 where there is any', async () => {
  const all = await reachableAddresses('::');
  const four = await reachableAddresses('0.0.0.0');
  expect(four.every(({ address }) => /^[0-9.]+$/.test(address))).toBe(true);
  expect(all).toEqual(expect.arrayContaining(four));
  expect(anyAddress(machine({ eth0: '10.0.0.1' }))).toBe('::');
  expect(anyAddress({ lo: [info('127.0.0.1')], eth0: [info('10.0.0.1')] })).toBe('0.0.0.0');
});
