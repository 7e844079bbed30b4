import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

/** The path of Chromium: LANTRAIN_CHROMIUM, or that of Debian's package; undefined where there is none. */
export function chromiumPath(): string | undefined {
  const path = process.env.LANTRAIN_CHROMIUM || '/usr/bin/chromium';
  return existsSync(path) ? path : undefined;
}

/** The suffix of the name of a test that is skipped without it. */
export const NEEDS_CHROMIUM = '(needs Chromium: apt-get install chromium, or LANTRAIN_CHROMIUM)';

/** Headless, with WebGPU on SwiftShader. */
export function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath(),
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
  });
}
