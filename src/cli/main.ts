#!/usr/bin/env node
import { runCommandLine } from './command-line.js';

// Dawn keeps the process alive, so it is ended here, once both streams are flushed.
const code = await runCommandLine(process.argv.slice(2));
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
