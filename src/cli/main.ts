#!/usr/bin/env node
import './hide-token.js';
import { hushDriverOutput } from '../node/driver-output.js';
import { runCommandLine } from './command-line.js';
import { guardOutput } from './output.js';

guardOutput();
hushDriverOutput();
// Only runs use these signals. In other commands Node would open a debugger or die.
for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => {});
// Dawn keeps the process alive, so it is ended here when both streams are flushed.
const code = await runCommandLine(process.argv.slice(2));
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
