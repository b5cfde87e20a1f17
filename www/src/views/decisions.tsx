export function Decisions(_: { params: URLSearchParams }) {
  return <h1>Decisions</h1>;
}
