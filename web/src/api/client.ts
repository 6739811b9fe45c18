/* The host's API over fetch. Every failure is an ApiError whose message can be shown to people as it is. */
import type { Refusal } from './types.ts';

export class ApiError extends Error {
  constructor(
    message: string,
    /** 0: no answer at all. */
    readonly status: number,
    readonly code: string,
    readonly refusals: Refusal[] = [],
  ) {
    super(message);
  }
}

export const API = '/api/v1';

interface ErrorBody {
  error?: { code?: string; message?: string; refusals?: Refusal[] };
}

/** The error that an answer carries; also of one that is no JSON, such as a proxy's. */
export async function errorOf(response: Response): Promise<ApiError> {
  let body: ErrorBody = {};
  try {
    body = (await response.json()) as ErrorBody;
  } catch {
    /* not ours */
  }
  const message = body.error?.message ?? `the host answered with ${response.status} ${response.statusText}`.trim();
  return new ApiError(message, response.status, body.error?.code ?? '', body.error?.refusals);
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(API + path, init);
  } catch (why) {
    if (init.signal?.aborted) throw why;
    throw new ApiError('the host cannot be reached', 0, 'unreachable');
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
  const response = await request(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

/** A path of segments, each encoded. */
export function path(...segments: (string | number)[]): string {
  return segments.map((segment) => '/' + encodeURIComponent(segment)).join('');
}

/** `?a=1&b=2` of what is not empty. */
export function query(parameters: Record<string, string | number | undefined>): string {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== '') out.set(name, String(value));
  }
  const text = out.toString();
  return text && '?' + text;
}
