import type { ModelPull, PulledFile } from '@lorasmith/contracts';
import type { HubFile } from '@lorasmith/hub';

/** The progress of a pull so far, as its record shows it. */
export interface PullProgress {
  begin(commit: string): void;
  /** Files that will be fetched, and how many bytes of each are on the disk. */
  expect(files: readonly { file: HubFile; bytes: number }[]): void;
  received(file: HubFile, bytes: number): void;
  snapshot(): Pick<ModelPull, 'commit' | 'files' | 'total_bytes' | 'received_bytes'>;
}

export function createPullProgress({ commit: firstCommit, files: firstFiles }: ModelPull): PullProgress {
  let commit = firstCommit;
  const files = new Map<string, PulledFile>(firstFiles.map((file) => [file.name, { ...file }]));
  return {
    begin(found) {
      commit = found;
      files.clear();
    },
    expect(expected) {
      for (const { file, bytes } of expected) {
        files.set(file.name, { ...file, received_bytes: Math.min(bytes, file.bytes) });
      }
    },
    received({ name }, bytes) {
      files.get(name)!.received_bytes = bytes;
    },
    snapshot() {
      const all = [...files.values()].map((file) => ({ ...file }));
      return {
        commit,
        files: all,
        total_bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
        received_bytes: all.reduce((sum, { received_bytes }) => sum + received_bytes, 0),
      };
    },
  };
}
