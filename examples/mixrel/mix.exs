defmodule Mixrel.MixProject do
  use Mix.Project

  def project do
    [
      app: :mixrel,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [],
      releases: [mixrel: [include_executables_for: [:unix]]]
    ]
  end

  def application do
    [mod: {Mixrel, []}, extra_applications: [:logger]]
  end
end
