import { existsSync } from 'node:fs';

/** Debian's package `chromium` has it. */
const DEBIAN = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** SwiftShader's driver manifest: LANTRAIN_SWIFTSHADER, or where Debian's chromium has it; undefined where there is none. */
export function swiftShaderIcd(): string | undefined {
  const path = process.env.LANTRAIN_SWIFTSHADER || DEBIAN;
  return existsSync(path) ? path : undefined;
}

/** The environment of a process whose adapter is to be SwiftShader. */
export function swiftShaderEnvironment(): Record<string, string> {
  const icd = swiftShaderIcd();
  return icd === undefined ? {} : { VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd };
}

/** Ends the name of a test that is skipped without it. */
export const NEEDS_SWIFTSHADER = '(needs SwiftShader: apt-get install chromium, or LANTRAIN_SWIFTSHADER)';
