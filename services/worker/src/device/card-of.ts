import type { Card } from '@lorasmith/contracts';
import { cudaVersion } from './cuda-faults.js';
import type { DriverFindings } from './look-at-driver.js';

/** The first card that the driver shows, as it is reported; null where there is none. The CUDA engine takes the first. */
export function cardOf(driver: DriverFindings | Error | null): Card | null {
  if (driver === null || driver instanceof Error) return null;
  const [card] = driver.devices;
  if (card === undefined) return null;
  const supports = `CUDA ${cudaVersion(driver.driverVersion)}`;
  return {
    name: card.name,
    uuid: card.uuid,
    compute_capability: card.capability.join('.'),
    driver: driver.version === null ? supports : `${driver.version}, ${supports}`,
    memory_bytes: card.totalBytes,
  };
}
