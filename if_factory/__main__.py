from if_factory.cli import main

main(prog_name="if-factory")
